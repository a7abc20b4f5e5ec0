"""The page of ``cnn-infer --html``: a run over pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cnn_infer.errors import InputError, PictureError
from cnn_infer.metrics import wilson_interval
from cnn_infer.page.classes import class_rows, confused_pairs, matrix
from cnn_infer.page.confidence import coverage, reliability
from cnn_infer.page.pictures import SIDE, Thumbnail, at_side, thumbnail
from cnn_infer.page.render import render
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import decode
from cnn_infer.pixels.resize import image_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnn_infer.classifier import Classifier
    from cnn_infer.drift import Drift
    from cnn_infer.evaluation import Report
    from cnn_infer.highlights import Highlights, Shown

MOST_LISTED = 20
"""Most folders and labels without a class that are listed."""


DRAWN_SIDE = 150
"""Longest side of a picture over which evidence is drawn, in pixels."""

Draw = Callable[[str, "Image"], tuple["Image", str]]
"""Takes the path of a picture and the picture; returns the drawing and the second most probable class."""


@dataclass(frozen=True)
class Card:
    """A picture on the page, with what was answered.

    Attributes:
        path: The file, as printable text.
        truth: The true class; None if it is not known.
        label: The most probable class.
        probability: Its probability, 0 to 1.
        picture: The thumbnail; None if the file can no longer be read.
        evidence: What speaks for and against the class and the second most probable one; None if that is not known.
        second: The second most probable class, where there is evidence.
    """

    path: str
    truth: str | None
    label: str
    probability: float
    picture: Thumbnail | None
    evidence: Thumbnail | None = None
    second: str | None = None


def page_of(
    report: Report,
    highlights: Highlights,
    classifier: Classifier,
    *,
    facts: Iterable[tuple[str, str]],
    notes: Sequence[str],
    paths: Sequence[str],
    max_pixels: int,
    max_bytes: int,
    draw: Draw | None = None,
) -> str:
    """Return the page of a run, as HTML. The pictures that it shows are read once more.

    Args:
        report: The report of the run.
        highlights: What was kept of single pictures.
        classifier: The model.
        facts: Names and texts about the model and its certificate.
        notes: What the reader should know first, one sentence each.
        paths: The paths that were classified.
        max_pixels, max_bytes: Limits on the pictures that are read.
        draw: Draws the evidence over a picture; None for a model without it.

    Raises:
        InputError: Jinja is not installed.
    """
    from cnn_infer.proof.conformance import versions

    spec = classifier.spec

    def cards(shown: Iterable[Shown]) -> list[Card]:
        return [_card(one, classifier, draw, max_pixels, max_bytes) for one in shown]

    values: dict[str, Any] = {
        "report": report,
        "precision": report.precision,
        "paths": paths,
        "classes": spec.classes,
        "notes": notes,
        "facts": [*_drift(report.drift), *facts],
        "versions": versions(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "read": report.images - report.errors,
        "latency": _latency(report.latency_ms),
        "unreadable": [(printable(path), reason) for path, reason in highlights.unreadable],
        "folders": sorted(report.unknown_folders.items(), key=lambda entry: -entry[1])[:MOST_LISTED],
        "unsure": cards(highlights.unsure) if report.accuracy is None else [],
        "mistakes": cards(highlights.mistakes),
        "reliability": None if report.calibration is None else reliability(report.calibration),
        "coverage": coverage(highlights.selections()),
        "interval": None,
        "rows": [],
        "matrix": [],
        "pairs": [],
        "unknown": [],
    }
    if report.accuracy is not None and report.per_class is not None and report.confusion is not None:
        unknown = [int(row["unknown"]) for row in report.per_class.values()]
        values |= {
            "interval": wilson_interval(round(report.accuracy * report.labelled), report.labelled),
            "rows": class_rows(report.per_class),
            "matrix": matrix(report.confusion, unknown),
            "pairs": confused_pairs(report.confusion, unknown, spec.classes),
            "unknown": unknown,
        }
    return render("run.html.jinja", values)


def _card(one: Shown, classifier: Classifier, draw: Draw | None, max_pixels: int, max_bytes: int) -> Card:
    """Read a picture once more, and draw its evidence."""
    named = (printable(one.path), one.truth, one.label, one.probability)
    try:
        image = image_of(decode(one.path, classifier.spec, max_pixels=max_pixels, max_bytes=max_bytes))
        if draw is None:
            return Card(*named, thumbnail(image))
        drawn, second = draw(one.path, at_side(image, DRAWN_SIDE))
    except (PictureError, InputError):  # it was moved or replaced since it was classified
        return Card(*named, None)
    return Card(*named, thumbnail(image), thumbnail(drawn, 2 * SIDE), second)


def _drift(drift: Drift | None) -> list[tuple[str, str]]:
    """Whether the pictures are like those of validation; a note says more where they are not."""
    if drift is None:
        return []
    verdict = "not like those of validation" if drift.differs else "no difference from those of validation is seen"
    return [
        (
            "pictures",
            f"{verdict} (top probabilities, Kolmogorov-Smirnov D {drift.statistic:.3f}, p {drift.p:.2g}, "
            f"{drift.images:,} and {drift.validation_images:,} pictures)",
        )
    ]


def _latency(latency_ms: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean milliseconds of both stages, and their shares of the total, 0 to 1."""
    model, total = latency_ms["model"]["mean"], latency_ms["total"]["mean"]
    part = model / total if total else 0.0
    return {"decode": total - model, "model": model, "decode_share": 1 - part, "model_share": part}
