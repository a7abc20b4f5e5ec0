"""Trained networks side by side on the same test split: ``cnn-train --compare``, with paired statistics.

Two accuracies whose confidence intervals overlap can differ by far more than chance, because both networks classify the
same pictures: what counts is the pictures on which only one of the two is right (McNemar, 1947, Psychometrika 12:153;
Dietterich, 1998, Neural Computation 10:1895).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from cnn_infer import console
from cnn_infer.calibration import calibration_of
from cnn_infer.metrics import confusion_of, scores_of, wilson_interval
from cnn_infer.paths.naming import printable
from cnn_infer.system import machine
from numpy.typing import NDArray

from cnn_train.compared import Opened, open_compared, read_test
from cnn_train.errors import RunError
from cnn_train.metrics import difference_interval, mcnemar_p

MOST_DIFFERING = 200
"""Pictures with different answers that are listed."""


@dataclass(frozen=True)
class ComparedModel:
    """One of the compared networks.

    Attributes:
        name: The run folder or file, as it was given.
        kind: ``PyTorch`` for a run folder; ``fp32``, ``fp16`` or ``int8`` for an exported file.
        bytes: Size of the weights file or of the model file.
        correct: Number of test pictures that are classified correctly.
        accuracy: 0 to 1.
        accuracy_interval: Its 95% confidence interval (Wilson).
        macro_f1: 0 to 1.
        ece: Expected calibration error, 0 to 1.
        brier: Brier score, 0 to 2.
        calibration: From :func:`cnn_infer.calibration.calibration_of`.
        confusion: Number of pictures by true class (row) and predicted class (column).
    """

    name: str
    kind: str
    bytes: int
    correct: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    ece: float
    brier: float
    calibration: Mapping[str, Any]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Pair:
    """The paired comparison of two networks.

    Attributes:
        first: Index of the first network.
        second: Index of the second network.
        both: Number of pictures that both classify correctly.
        only_first: Number of pictures that only the first classifies correctly.
        only_second: Number of pictures that only the second classifies correctly.
        neither: Number of pictures that neither classifies correctly.
        mcnemar_p: Exact two-sided p of McNemar's test.
        difference: Accuracy of the second minus that of the first, -1 to 1.
        difference_interval: Its 95% confidence interval, paired (Agresti and Min, 2005).
    """

    first: int
    second: int
    both: int
    only_first: int
    only_second: int
    neither: int
    mcnemar_p: float
    difference: float
    difference_interval: tuple[float, float]


@dataclass(frozen=True)
class GivenAnswer:
    """The answer of one network for one picture.

    Attributes:
        label: Name of the predicted class.
        probability: Its probability, 0 to 1.
        correct: Whether it is the true class.
    """

    label: str
    probability: float
    correct: bool


@dataclass(frozen=True)
class DifferingPicture:
    """A test picture that the networks classify differently.

    Attributes:
        path: Its path, or the name of its file and its number there.
        truth: Name of the true class.
        answers: The answer of each network.
    """

    path: str
    truth: str
    answers: tuple[GivenAnswer, ...]


@dataclass(frozen=True)
class Comparison:
    """Networks side by side on the same test split.

    Attributes:
        data: Name of the data set.
        test_fingerprint: SHA-256 of the test pictures, their paths and classes, hexadecimal.
        images: Number of test pictures.
        classes: Names of the classes, in the order of the confusion matrices.
        models: The networks, in the order in which they were given.
        pairs: Every two of them.
        differing: Number of pictures that not all networks classify alike.
        pictures: At most :data:`MOST_DIFFERING` of these; those with the most probable wrong answer first.
        machine: The processor and operating system.
    """

    data: str
    test_fingerprint: str
    images: int
    classes: tuple[str, ...]
    models: tuple[ComparedModel, ...]
    pairs: tuple[Pair, ...]
    differing: int
    pictures: tuple[DifferingPicture, ...]
    machine: str

    def to_json(self) -> str:
        """Return all fields as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


def compare(runs: Sequence[str | os.PathLike[str]], *, data: str | os.PathLike[str] | None = None) -> Comparison:
    """Classify the same test split with two or more networks, and compare them.

    Run folders are classified by PyTorch on the CPU in fp32, exported files by ONNX Runtime.

    Args:
        runs: Run folders, and ``.onnx`` files that cnn-export wrote.
        data: New place of the data set, if it has moved. An exported file that is not in its run folder does not know
            the place.

    Raises:
        RunError: there are fewer than two networks, one cannot be opened, they were not tested on the same pictures, or
            their data set is not found or has other test pictures.
        InputError: a folder of the data set cannot be listed, or its labels file or archive is damaged.
        ModelError: a file cannot be used.
        DeviceError: ONNX Runtime is not installed, and there are exported files.
    """
    if len(runs) < 2:
        raise RunError("a comparison needs two or more run folders or .onnx files")
    opened = [open_compared(run) for run in runs]
    _check_same(opened)
    name, splits = read_test(opened, data)
    labels, names, classes = splits[0].labels, splits[0].names, opened[0].spec.classes
    with console.progress("comparing", len(opened) * len(labels)) as advance:
        outputs = [entry.classify(split.images, advance) for entry, split in zip(opened, splits, strict=True)]
    models = tuple(_measured(entry, found, labels) for entry, found in zip(opened, outputs, strict=True))
    right = [found.argmax(axis=1) == labels for found in outputs]
    pairs = tuple(
        _paired(first, second, right[first], right[second]) for first, second in combinations(range(len(opened)), 2)
    )
    order = _differing(outputs, labels)
    return Comparison(
        data=name,
        test_fingerprint=opened[0].fingerprint,
        images=len(labels),
        classes=classes,
        models=models,
        pairs=pairs,
        differing=len(order),
        pictures=tuple(_answers(index, names, outputs, labels, classes) for index in order[:MOST_DIFFERING]),
        machine=machine.description(),
    )


def _check_same(opened: Sequence[Opened]) -> None:
    first = opened[0]
    for other in opened[1:]:
        if other.spec.classes != first.spec.classes:
            raise RunError(f"{first.name} and {other.name} have other classes: they cannot be compared")
        if other.fingerprint != first.fingerprint:
            raise RunError(
                f"{first.name} and {other.name} were tested on other pictures: train them on the same data set, with "
                "the same seed if it has no test split of its own"
            )


def _measured(entry: Opened, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> ComparedModel:
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_of(labels, predicted, probabilities.shape[1])
    scores, correct = scores_of(confusion), int((predicted == labels).sum())
    calibration = calibration_of(probabilities, labels)
    return ComparedModel(
        name=entry.name,
        kind=entry.kind,
        bytes=entry.bytes,
        correct=correct,
        accuracy=correct / len(labels),
        accuracy_interval=wilson_interval(correct, len(labels)),
        macro_f1=scores.macro(scores.f1),
        ece=calibration["ece"],
        brier=calibration["brier"],
        calibration=calibration,
        confusion=confusion.tolist(),
    )


def _paired(first: int, second: int, right: NDArray[np.bool_], other: NDArray[np.bool_]) -> Pair:
    only_first, only_second, total = int((right & ~other).sum()), int((~right & other).sum()), len(right)
    return Pair(
        first=first,
        second=second,
        both=int((right & other).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~right & ~other).sum()),
        mcnemar_p=mcnemar_p(only_first, only_second),
        difference=(only_second - only_first) / total,
        difference_interval=difference_interval(only_second, only_first, total),
    )


def _differing(outputs: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]) -> list[int]:
    """Indices of the pictures with different answers; those with the most probable wrong answer first."""
    predicted = np.stack([found.argmax(axis=1) for found in outputs])
    top = np.stack([found.max(axis=1) for found in outputs])
    wrong = np.where(predicted == labels, 0, top).max(axis=0)
    order = np.argsort(-wrong, kind="stable")
    differing: list[int] = order[(predicted[:, order] != predicted[0, order]).any(axis=0)].tolist()
    return differing


def _answers(
    index: int,
    names: Sequence[str],
    outputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: Sequence[str],
) -> DifferingPicture:
    found = [(int(rows[index].argmax()), float(rows[index].max())) for rows in outputs]
    truth = int(labels[index])
    answers = tuple(GivenAnswer(classes[label], probability, label == truth) for label, probability in found)
    return DifferingPicture(printable(names[index]), classes[truth], answers)
