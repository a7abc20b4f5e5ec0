"""The page of a finished training: ``cnn-train --html``."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import console
from cnn_infer.calibration import calibration_of
from cnn_infer.highlights import Highlights
from cnn_infer.page.classes import class_rows, confused_pairs, matrix
from cnn_infer.page.confidence import coverage, reliability
from cnn_infer.page.pictures import Thumbnail, thumbnail
from cnn_infer.page.render import render
from cnn_infer.page.run_page import Card
from cnn_infer.paths.naming import composed
from cnn_infer.pixels.resize import image_of
from cnn_infer.prediction import Prediction
from cnn_infer.run_files import EXPORT_REPORT
from cnn_infer.system.atomic import write_text

from cnn_train.compared import open_compared, read_test
from cnn_train.data.dataset import Split
from cnn_train.destinations import check_results
from cnn_train.errors import RunError
from cnn_train.page.curves import accuracy_chart, loss_chart
from cnn_train.run.folder import Run
from cnn_train.run.report import versions

log = logging.getLogger(__name__)

MOST_FLIPS = 48
"""Most pictures that int8 answers differently are shown."""


def write_page(
    run: Run | str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
) -> None:
    """Write a finished run as one web page that opens offline.

    The test pictures are classified once more for the parts that show single pictures. Where the data set is gone, the
    page has the recorded figures only, and says so.

    Args:
        run: The run or its folder.
        file: The file to write; an earlier one is replaced.
        data: Where the data set is now; None for the place where it was in training.

    Raises:
        InputError: Jinja is not installed, the page's folder is missing, or the file belongs to the run or is read.
        RunError: the run is missing, unfinished or damaged, or ``data`` is not the data set of the run.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    check_results(html=file, runs=[run.path], read=[data])
    spec, report = run.spec, run.report
    split: Split | None = None
    missing: str | None = None
    try:
        _, (split,) = read_test([open_compared(run.path)], data, "cnn-train DATA --run RUN --html FILE")
    except RunError as error:
        if data is not None:
            raise
        missing = str(error)
        log.warning(f"the page has no pictures and no chart of confidence: {error}")
    test = report["test"]
    shown = {} if split is None else _shown(run, split)
    exported = _exported(run)
    flips, more_flips = _flips(exported, split, spec.classes)
    values: dict[str, Any] = {
        "name": run.path.resolve().name,
        "test": test,
        "report": report,
        "spec": spec,
        "classes": spec.classes,
        "notes": [
            *report.get("warnings", []),
            *([] if missing is None else [f"No pictures and no charts of confidence on this page: {missing}"]),
        ],
        "calibration": test.get("calibration"),
        "charts": [chart(run.epochs, report["best_epoch"]) for chart in (loss_chart, accuracy_chart)],
        "epochs": run.epochs,
        "rows": class_rows(test["per_class"]),
        "matrix": matrix(test["confusion"], [0] * len(spec.classes)),
        "pairs": confused_pairs(test["confusion"], [0] * len(spec.classes), spec.classes),
        "reliability": None,
        "coverage": None,
        "mistakes": [],
        "checked": split is not None,
        "exported": exported,
        "promises": [*_promises(exported or {})],
        "flips": flips,
        "more_flips": more_flips,
        "settings": [(key, _text(value)) for key, value in asdict(run.config).items() if value is not None],
        "facts": [*_facts(run)],
        "versions": versions(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **shown,
    }
    write_text(Path(file), render("training.html.jinja", values, ["cnn_train.page"]))


def _shown(run: Run, split: Split) -> dict[str, Any]:
    """What is measured on single test pictures, by classifying them once more."""
    with console.progress("classifying the test pictures", len(split.labels)) as advance:
        probabilities = open_compared(run.path).classify(split.images, advance)
    calibration = calibration_of(probabilities, split.labels)
    highlights = Highlights()
    classes = run.spec.classes
    for number, (row, truth) in enumerate(zip(probabilities, split.labels.tolist(), strict=True)):
        found = int(row.argmax())
        top = ((classes[found], float(row[found])),)
        highlights.add(split.names[number], Prediction(classes[found], found, float(row[found]), top), classes[truth])
    mistakes = [
        Card(split.names[one.number], one.truth, one.label, one.probability, picture_of(split, one.number))
        for one in highlights.mistakes
    ]
    return {
        "calibration": calibration,
        "reliability": reliability(calibration),
        "coverage": coverage(highlights.selections()),
        "mistakes": mistakes,
    }


def picture_of(split: Split, number: int) -> Thumbnail:
    """Return the thumbnail of a picture of a split."""
    pixels = split.images[number]
    return thumbnail(image_of(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)))


def _exported(run: Run) -> dict[str, Any] | None:
    """The content of ``export.json``; None if the run was not exported."""
    file = run.path / EXPORT_REPORT
    if not file.exists():
        return None
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        float(document["fp32"]["accuracy"]), float(document["parity"]["probabilities"]["max"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {error}: export the run again") from error
    return document


def _flips(
    exported: Mapping[str, Any] | None, split: Split | None, classes: Sequence[str]
) -> tuple[list[dict[str, Any]], int]:
    """The test pictures that int8 answers differently, up to :data:`MOST_FLIPS`, and the number of the others.

    Those that it loses come first.
    """
    if exported is None or not exported.get("int8") or split is None:
        return [], 0
    flips = exported["int8"].get("test_flips", [])
    found = []
    for flip, number in zip(flips, _numbers(split.names, [flip["picture"] for flip in flips]), strict=True):
        if number is not None:
            truth = int(split.labels[number])
            found.append(
                {
                    "path": split.names[number],
                    "truth": classes[truth],
                    "before": classes[flip["from"]],
                    "after": classes[flip["to"]],
                    "confidence_before": flip["confidence_before"],
                    "confidence_after": flip["confidence_after"],
                    "lost": flip["from"] == truth,
                    "won": flip["to"] == truth,
                    "picture": picture_of(split, number),
                }
            )
    shown = sorted(found, key=lambda one: (not one["lost"], not one["won"]))[:MOST_FLIPS]
    return shown, len(flips) - len(shown)


def _numbers(names: Sequence[str], wanted: Iterable[str]) -> Iterator[int | None]:
    """The number of each wanted picture in a split, or None; where the data has moved, by the path below its folder."""
    known = {composed(name): number for number, name in enumerate(names)}
    folder = Path(os.path.commonpath([os.path.dirname(name) for name in names]))
    below = {Path(name).parts[len(folder.parts) :]: number for name, number in known.items()}
    for name in map(composed, wanted):
        parts = Path(name).parts
        ends = (parts[start:] for start in range(len(parts)))
        yield known.get(name, next((below[end] for end in ends if end in below), None))


def _promises(exported: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Calibration and certified threshold of each file, in words; exports of earlier versions have neither."""
    for name, found in exported.get("calibration", {}).items():
        if found:
            yield f"calibration, {name}", f"ECE {found['ece']:.4f}, Brier score {found['brier']:.4f}"
    for name, found in exported.get("guarantee", {}).items():
        if found:
            yield f"promise, {name}", str(found.get("text") or f"none: {found.get('refused')}")


def _facts(run: Run) -> Iterable[tuple[str, str]]:
    """What the run was made from and with, in words."""
    spec, report = run.spec, run.report
    data: Any = spec.details.get("data")
    data = data if isinstance(data, dict) else {}
    yield "input", f"{spec.width} x {spec.height} pixels, {spec.colour}; {spec.resize}, {spec.filter}"
    yield "classes", f"{len(spec.classes)}: {', '.join(spec.classes[:20])}{', ...' if len(spec.classes) > 20 else ''}"
    if data.get("name"):
        counts = data.get("images", {})
        yield "data", f"{data['name']}: " + ", ".join(f"{number:,} {split}" for split, number in counts.items())
    for note in report.get("notes", []):
        yield "", str(note)
    if report.get("unreadable"):
        yield "", f"{len(report['unreadable']):,} files could not be read"
    for split, digest in data.get("fingerprints", {}).items():
        yield f"{split} set", f"SHA-256 {digest}"
    yield "temperature", f"{report['temperature']:.4f}, fitted on the validation pictures"
    yield "machine", f"{report['machine']}; {report['device']}, {report['precision']}, {report['threads']} threads"
    used: Any = spec.details.get("versions")
    if isinstance(used, dict):
        yield "trained with", ", ".join(f"{name} {version}" for name, version in used.items())


def _text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
