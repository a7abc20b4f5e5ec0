"""The replay of the whole path from a picture file to probabilities, stage by stage, on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnn_infer.classifier import Classifier
from cnn_infer.errors import ModelError, PictureError
from cnn_infer.model import CONFORMANCE_KEY, GOLDEN_KEY
from cnn_infer.pixels.convert import STAGES as PIXEL_STAGES
from cnn_infer.proof.conformance import LIBRARIES, ConformanceFile, Pixels, pixels_of, read, recorded, versions
from cnn_infer.proof.golden import agree, tolerance_of, verify

STAGES = (*PIXEL_STAGES, "graph", "probabilities")
"""All stages, in order. ``graph`` is replayed on the golden pictures, the other stages on the conformance files."""


@dataclass(frozen=True)
class Deviation:
    """A picture that gives something else on this machine than at export.

    Attributes:
        picture: The conformance file, or ``golden picture 3``.
        stage: The first of :data:`STAGES` that differs.
        largest: The largest difference: of the sampled pixels, 0 to 255, or of a probability, 0 to 1. None if there is
            nothing to compare: the file cannot be decoded, or gives another size or colour mode.
        mean: The mean difference, like ``largest``.
        effect: The largest difference of a probability that follows from it, 0 to 1; None if there is none.
        reason: What differs, in words.
        libraries: The libraries that compute this stage.
    """

    picture: str
    stage: str
    largest: float | None
    mean: float | None
    effect: float | None
    reason: str
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class StageResult:
    """The result of one stage.

    Attributes:
        stage: One of :data:`STAGES`.
        compared: Number of pictures that were compared: those with no difference in an earlier stage.
        agreed: Number of these that give the same as at export.
        worst: The largest difference of a probability, for ``graph`` and ``probabilities``; None for pixels, and
            without pictures.
    """

    stage: str
    compared: int
    agreed: int
    worst: float | None = None


@dataclass(frozen=True)
class Verification:
    """The result of :func:`verify_all`.

    Attributes:
        stages: The results of the stages that the model file can prove, in order.
        deviations: The pictures that differ, by stage.
        tolerance: Largest accepted difference of a probability.
        here: Versions of the libraries on this machine.
        exported: Their versions at export; empty for a model without conformance files.
    """

    stages: tuple[StageResult, ...]
    deviations: tuple[Deviation, ...]
    tolerance: float
    here: Mapping[str, str]
    exported: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether nothing differs."""
        return not self.deviations

    @property
    def worst(self) -> float:
        """The largest difference of a probability, 0 to 1; 0 if none was compared."""
        return max((result.worst for result in self.stages if result.worst is not None), default=0.0)

    @property
    def covers_pixels(self) -> bool:
        """Whether the model has conformance files: files of older versions prove the graph alone."""
        return any(result.stage in PIXEL_STAGES for result in self.stages)


def verify_all(classifier: Classifier) -> Verification:
    """Replay golden pictures and conformance files on this machine, stage by stage.

    The pixels of ``decode``, ``orientation``, ``colour`` and ``resize`` must be equal. Probabilities and classes must
    :func:`~cnn_infer.proof.golden.agree`. A file counts only in its first stage that differs.

    Raises:
        ModelError: the model has nothing to replay, or it is damaged, or ONNX Runtime failed.
    """
    classifier = Classifier(classifier.model)  # with the default limits on the size of pictures
    details = classifier.model.metadata
    files, exported = read(details[CONFORMANCE_KEY]) if CONFORMANCE_KEY in details else ([], {})
    tolerance = tolerance_of(classifier.spec)
    found = [_replay(classifier, file, tolerance) for file in files]
    results = _pixel_results([deviation for deviation, _ in found])
    deviations = [deviation for deviation, _ in found if deviation is not None]
    if not files or details.get(GOLDEN_KEY, "[]") != "[]":
        graph, differing = _graph(classifier)
        results.append(graph)
        deviations += differing
    if files:
        reached = [(deviation, gap) for deviation, gap in found if not _in_pixels(deviation)]
        agreed = sum(deviation is None for deviation, _ in reached)
        worst = max((gap for _, gap in reached if gap is not None), default=None)
        results.append(StageResult("probabilities", len(reached), agreed, worst))
    deviations.sort(key=lambda deviation: STAGES.index(deviation.stage))
    return Verification(tuple(results), tuple(deviations), tolerance, versions(), exported)


def _in_pixels(deviation: Deviation | None) -> bool:
    return deviation is not None and deviation.stage in PIXEL_STAGES


def _pixel_results(found: Sequence[Deviation | None]) -> list[StageResult]:
    results, compared = [], len(found)
    for stage in PIXEL_STAGES if found else ():
        differing = sum(deviation is not None and deviation.stage == stage for deviation in found)
        results.append(StageResult(stage, compared, compared - differing))
        compared -= differing
    return results


def _replay(classifier: Classifier, file: ConformanceFile, tolerance: float) -> tuple[Deviation | None, float | None]:
    """Return the first deviation of a conformance file, and the largest difference of a probability."""
    try:
        stages = recorded(file.data, classifier.spec)
        pixels = classifier.pixels(file.data)  # the way of every other picture, whatever was observed
    except PictureError as error:
        reason = f"cannot be decoded on this machine: {error}"
        return Deviation(file.name, "decode", None, None, None, reason, _decoders(file)), None
    stages["resize"] = pixels_of(pixels)
    row = classifier.probabilities(pixels[None])[0]
    try:
        gaps = [abs(float(row[index]) - value) for index, value in file.probabilities.items()]
    except IndexError as error:
        raise ModelError(f"the model's conformance files are damaged: {file.name}: {error}") from error
    gap = float(np.max(gaps)) if gaps else None
    want = min(file.probabilities, key=lambda index: (-file.probabilities[index], index), default=0)
    have = int(row.argmax())
    for stage in PIXEL_STAGES:
        if not _same(stage, file.stages, stages):
            libraries = _decoders(file) if stage == "decode" else ("pillow",)
            largest, mean, reason = _distance(file.stages[stage], stages[stage])
            return Deviation(file.name, stage, largest, mean, gap, reason, libraries), gap
    if gap is not None and not agree(want, have, gap, tolerance):
        names = classifier.spec.classes
        change = "" if want == have else f"{names[want]} -> {names[have]}, "
        reason = f"{change}a probability differs by {gap:.2g}"
        return Deviation(file.name, "probabilities", gap, float(np.mean(gaps)), None, reason, ("onnxruntime",)), gap
    return None, gap


def _decoders(file: ConformanceFile) -> tuple[str, ...]:
    return LIBRARIES.get(file.format, ("pillow",))


def _same(stage: str, expected: Mapping[str, Pixels], found: Mapping[str, Pixels]) -> bool:
    """Whether the pixels after a stage are equal.

    Versions of a decoder may give the same colours in another mode, such as a palette in place of RGB. The pixels are
    compared when they have the model's colours then.
    """
    if stage in ("decode", "orientation") and expected[stage].mode != found[stage].mode:
        return expected["colour"] == found["colour"]
    return expected[stage] == found[stage]


def _distance(expected: Pixels, found: Pixels) -> tuple[float | None, float | None, str]:
    """Return the largest and the mean difference of the sampled pixels, and what differs in words."""
    if expected.mode != found.mode:
        return None, None, f"colour mode {found.mode}, at export {expected.mode}"
    if expected.size != found.size:
        return None, None, "{} x {} pixels, at export {} x {}".format(*found.size, *expected.size)
    if len(expected.sample) != len(found.sample):
        return None, None, "pixels differ"
    samples = (np.frombuffer(pixels.sample, np.uint8).astype(np.int64) for pixels in (found, expected))
    apart = np.abs(np.subtract(*samples))
    largest, mean = float(apart.max()), float(apart.mean())
    if not largest:
        return largest, mean, "pixels differ, but none of the sampled ones"
    return largest, mean, f"sampled pixels differ by up to {largest:.0f} of 255, {mean:.1f} on average"


def _graph(classifier: Classifier) -> tuple[StageResult, list[Deviation]]:
    replays = verify(classifier)
    deviations = [
        Deviation(
            f"golden picture {number}",
            "graph",
            replay.difference,
            None,
            None,
            f"{replay.expected} -> {replay.found}, a probability differs by {replay.difference:.2g}",
            ("onnxruntime",),
        )
        for number, replay in enumerate(replays)
        if not replay.passed
    ]
    worst = float(np.max([replay.difference for replay in replays]))
    return StageResult("graph", len(replays), len(replays) - len(deviations), worst), deviations
