"""Decide on this machine which of several files of one export to ship: fp32 or int8."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from cnn_infer.classifier import Classifier
from cnn_infer.details import under
from cnn_infer.errors import InputError, ModelError, PictureError
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.proof.certificate import timed_pictures
from cnn_infer.proof.origin import accuracy_of, check_together, inexactness_of
from cnn_infer.proof.side_by_side import Speedup, Spread, Times, measure, speedup_of, spread_of
from cnn_infer.proof.verification import verify_all
from cnn_infer.system import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PICTURES = 256
"""Largest number of different pictures that are timed."""


@dataclass(frozen=True)
class Comparison:
    """A file compared with another one that is at least as exact.

    Attributes:
        file: The file, as in :attr:`Judged.file`.
        against: The other file.
        batch_1: Speed-up at batch 1: the model alone, one picture per call, one thread.
        folder: Speed-up of a run over pictures with all processors.
    """

    file: str
    against: str
    batch_1: Speedup
    folder: Speedup

    @property
    def pays(self) -> bool:
        """Whether the file is faster at batch 1 or in a folder, and slower in neither."""
        answers = {self.batch_1.answer, self.folder.answer}
        return "faster" in answers and "slower" not in answers


@dataclass(frozen=True)
class Judged:
    """What was found about one file.

    Attributes:
        file: The path or URL of the file as it was given, without credentials.
        sha256: SHA-256 of the file, hexadecimal.
        bytes: The file's size.
        precision: ``fp32``, ``fp16`` or ``int8``.
        provider: The ONNX Runtime execution provider that ran it.
        accuracy: Accuracy on the test split at export, 0 to 1; None if the file does not have it.
        replay: The result of its replay on this machine, in words.
        obstacle: Why it cannot be shipped on this machine; None if it can.
        batch_1_ms: Milliseconds per picture at batch 1; None if nothing was timed.
        folder_per_second: Pictures per second of a run over pictures; None if nothing was timed.
    """

    file: str
    sha256: str
    bytes: int
    precision: str
    provider: str
    accuracy: float | None
    replay: str
    obstacle: str | None
    batch_1_ms: Spread | None
    folder_per_second: Spread | None


@dataclass(frozen=True)
class Judgement:
    """Which file to ship on this machine, and why.

    Attributes:
        ship: The file, as in :attr:`Judged.file`; None if none can be shipped. Then nothing was timed.
        reason: Why, as one sentence.
        files: What was found about each file, in the order of the arguments.
        comparisons: The speed-ups that decided. The files that can be shipped are compared in the order of their
            exactness, each with the best one before it.
        pictures: Number of different pictures that were timed.
        source: Which pictures: ``named pictures``, or those inside the model, such as ``golden pictures, as PNG``. They
            are decoded and resized in the run over pictures, not at batch 1.
        rounds: Number of rounds.
        threads: Worker threads of the run over pictures.
        batch_size: Most pictures in one run of the model in the run over pictures.
        machine: The processor and operating system.
    """

    ship: str | None
    reason: str
    files: list[Judged]
    comparisons: list[Comparison]
    pictures: int
    source: str
    rounds: int
    threads: int
    batch_size: int
    machine: str

    def to_json(self) -> str:
        """Return the judgement as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def without_folders(self) -> Judgement:
        """Return the judgement with the names of the files in place of their paths, for people who may not see them."""
        comparisons = [replace(pair, file=_name(pair.file), against=_name(pair.against)) for pair in self.comparisons]
        return replace(
            self,
            ship=None if self.ship is None else _name(self.ship),
            reason=self.reason if self.ship is None else _reason(comparisons),
            files=[replace(file, file=_name(file.file)) for file in self.files],
            comparisons=comparisons,
        )


def _name(path: str) -> str:
    return os.path.basename(path)


def judge(
    models: Sequence[str | os.PathLike[str]],
    paths: Iterable[str | os.PathLike[str] | Listed] = (),
    *,
    device: str = "auto",
) -> Judgement:
    """Replay and time files of one export on this machine, and decide which one to ship.

    A file that fails its replay, or that was not accurate enough at export, is never shipped. Of the others the most
    exact one ships (fp32 before int8), unless a less exact one is faster at batch 1 or in a folder and slower in
    neither. This takes about ten seconds, longer for a network that needs more than 10 ms per picture.

    Args:
        models: At least two files that cnn-export wrote for one training.
        paths: Pictures to time, as :func:`cnn_infer.find_pictures` takes them; the first 256 are used. With none, the
            pictures inside the model file are used.
        device: As for :class:`~cnn_infer.Classifier`.

    Raises:
        InputError: there are fewer than two files, two are the same or do not belong together, or none of the
            pictures can be read.
        ModelError: a file cannot be opened, or ONNX Runtime failed.
        DeviceError: the device is not available.
    """
    if len(models) < 2:
        raise InputError("nothing to compare: name at least two files of one export, model.onnx and model.int8.onnx")
    classifiers = [Classifier(model, device=device) for model in models]
    for place, classifier in enumerate(classifiers):
        for other in classifiers[:place]:
            check_together(other, classifier)
    replays = [_replay(classifier) for classifier in classifiers]
    eligible = [place for place, (_, obstacle) in enumerate(replays) if obstacle is None]
    times: Times | None = None
    pictures: Sequence[str | bytes] = []
    comparisons: list[Comparison] = []
    source, ship, reason = "", None, "none of the files can be shipped on this machine"
    if eligible:
        source, frames, pictures = _pictures(classifiers[eligible[0]], list(paths))
        times = measure(classifiers, frames, pictures)
        best, *rest = sorted(eligible, key=lambda place: inexactness_of(classifiers[place]))
        for place in rest:
            comparisons.append(_compare(classifiers, times, place, best))
            if comparisons[-1].pays:
                best = place
        ship = classifiers[best].model.name
        reason = _reason(comparisons)
    return Judgement(
        ship=ship,
        reason=reason,
        files=[
            _judged(classifier, replay, times, place)
            for place, (classifier, replay) in enumerate(zip(classifiers, replays, strict=True))
        ],
        comparisons=comparisons,
        pictures=len(pictures),
        source=source,
        rounds=len(times.batch_1) if times else 0,
        threads=times.threads if times else 0,
        batch_size=times.batch_size if times else 0,
        machine=machine.description(),
    )


def _replay(classifier: Classifier) -> tuple[str, str | None]:
    """Return the result of a file's replay in words, and why it cannot be shipped (None if it can)."""
    verdict = under(classifier.spec.details, "parity", "fp32_against_int8", "verdict")
    if verdict.get("good_enough") is False:
        return "not replayed", f"not accurate enough at export: {verdict.get('reason')}"
    try:
        found = verify_all(classifier)
    except ModelError as error:
        return "not replayed", str(error)
    if not found.passed:
        text = f"differs in {found.deviations[0].stage} ({found.deviations[0].picture})"
        return text, "it gives something else on this machine than at export (--verify has the details)"
    stages = "all stages agree" if found.covers_pixels else "the graph agrees"
    return f"{stages} (worst difference {found.worst:.2g})", None


def _pictures(
    classifier: Classifier, paths: Sequence[str | os.PathLike[str] | Listed]
) -> tuple[str, NDArray[np.uint8], Sequence[str | bytes]]:
    """Return which pictures are timed, their pixels for batch 1, and the readable files for the run over pictures."""
    files: Iterable[str | bytes] = find_pictures(paths)
    which = "named pictures"
    if not paths:
        which, files = timed_pictures(classifier)
    decoded: list[NDArray[np.uint8]] = []
    readable: list[str | bytes] = []
    for file in islice(files, MOST_PICTURES):
        try:
            decoded.append(classifier.pixels(file))
        except PictureError:
            continue
        readable.append(file)
    if not readable:
        raise InputError("none of the pictures can be read: name others, or only the model files")
    return which, np.stack(decoded), readable


def _compare(classifiers: Sequence[Classifier], times: Times, place: int, other: int) -> Comparison:
    return Comparison(
        file=classifiers[place].model.name,
        against=classifiers[other].model.name,
        batch_1=speedup_of(times.batch_1[:, place], times.batch_1[:, other]),
        folder=speedup_of(times.folder[:, place], times.folder[:, other]),
    )


def _judged(classifier: Classifier, replay: tuple[str, str | None], times: Times | None, place: int) -> Judged:
    return Judged(
        file=classifier.model.name,
        sha256=classifier.model.digest,
        bytes=classifier.model.bytes,
        precision=classifier.spec.precision,
        provider=classifier.provider,
        accuracy=accuracy_of(classifier),
        replay=replay[0],
        obstacle=replay[1],
        batch_1_ms=None if times is None else spread_of(1e3 * times.batch_1[:, place]),
        folder_per_second=None if times is None else spread_of(1 / times.folder[:, place]),
    )


def _reason(comparisons: Sequence[Comparison]) -> str:
    """Return one sentence on why a file ships: the last one that pays, or else the most exact one."""
    if not comparisons:
        return "it is the only file that can be shipped on this machine"
    for comparison in reversed(comparisons):
        if comparison.pays:
            answers = {"at batch 1": comparison.batch_1.answer, "in a folder": comparison.folder.answer}
            places = [place for place, answer in answers.items() if answer == "faster"]
            others = [f", and not slower {place}" for place, answer in answers.items() if answer != "faster"]
            return f"it is faster than {comparison.against} {' and '.join(places)}{''.join(others)}"
    if any("faster" in (comparison.batch_1.answer, comparison.folder.answer) for comparison in comparisons):
        return "it is the most exact file, and no other is faster both at batch 1 and in a folder"
    return "it is the most exact file, and no other is faster by more than the spread"
