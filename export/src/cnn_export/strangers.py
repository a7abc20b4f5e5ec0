"""The rule for strangers: pictures that are nothing like those of training, by the output ``strangeness``.

The statistics come from the training pictures, the threshold from the validation pictures, and the false alarms are
counted on the test pictures; all with the very graph that is shipped.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Model, Spec, open_model
from cnn_infer.guarantee import percent
from cnn_infer.metrics import exact_interval
from cnn_infer.model import INPUT, PROBABILITIES
from cnn_infer.optional_outputs import STRANGENESS
from cnn_infer.strangers import KEY
from cnn_train import Dataset, Split
from numpy.typing import NDArray
from onnx import ModelProto
from sklearn.covariance import ledoit_wolf

from cnn_export.batches import batches
from cnn_export.errors import ExportError
from cnn_export.graph.features import features_of, maps_of
from cnn_export.graph.float_graph import with_metadata
from cnn_export.graph.strangeness import Statistics, add_strangeness
from cnn_export.int8.arithmetic import is_here
from cnn_export.int8.targets import Target, kind_of_this_machine
from cnn_export.parity import FULL_BATCH
from cnn_export.reports import parity_failure
from cnn_export.selection import classes_in_turn

TRAINING_PICTURES = 10_000
"""Largest number of training pictures that the statistics are computed from."""

TOLERANCE = 1e-3
"""Largest accepted difference of ``strangeness`` from a computation in float64, relative to it, or absolute below 1."""

SAME = 1e-5
"""Largest accepted difference of a probability between the file with the output ``strangeness`` and without."""

FINEST = 1e6
"""The threshold is rounded up to a multiple of one millionth: later digits differ between processors."""


@dataclass(frozen=True)
class Strangers:
    """The rule for strangers of one model file, and what it does on the test split.

    Attributes:
        rate: The false alarm rate that was asked for: the largest expected share of strangers among pictures like the
            validation pictures, 0 to 1.
        threshold: A picture is a stranger if its ``strangeness`` is larger.
        features: Number of features.
        training_pictures: Number of training pictures in the statistics.
        validation_pictures: Number of validation pictures that gave the threshold.
        test_pictures: Number of test pictures.
        false_alarms: Number of test pictures that are strangers.
        false_alarm_rate: Their share, 0 to 1.
        interval: 95% confidence interval of that share (Clopper and Pearson, 1934, Biometrika 26:404).
        difference: Largest difference of ``strangeness`` on the test pictures from a computation in float64, relative
            to it, or absolute below 1.
    """

    rate: float
    threshold: float
    features: int
    training_pictures: int
    validation_pictures: int
    test_pictures: int
    false_alarms: int
    false_alarm_rate: float
    interval: tuple[float, float]
    difference: float


def check_network(model: ModelProto, target: Target | None) -> None:
    """Check that a network can have the output ``strangeness``.

    Args:
        model: The graph with the inputs and outputs of the model file.
        target: The processors of the int8 model; None without one.

    Raises:
        GraphError: no convolution of the network reads what another one computed.
        ExportError: this machine does not compute what the int8 model computes on its processors.
    """
    maps_of(model)
    if target is not None and not is_here(target):
        raise ExportError(
            "strangers (--strangers) needs an int8 model that this machine computes: for any processor, or for "
            f"{kind_of_this_machine()}, not {target.name}"
        )


def statistics_of(features: NDArray[np.float32], labels: NDArray[np.int64]) -> Statistics:
    """Compute the means of the classes and the covariance that they share.

    The covariance is shrunk towards a multiple of the unit matrix (Ledoit and Wolf, 2004, "A well-conditioned estimator
    for large-dimensional covariance matrices"), so that it can be inverted.

    Args:
        features: float32 (n, d), of training pictures.
        labels: int64 (n,), their classes. A class without a picture has no mean.

    Raises:
        ExportError: a feature is not a number, or the features of all pictures of a class are equal.
    """
    values = features.astype(np.float64)
    if not np.isfinite(values).all():
        raise ExportError("strangers (--strangers): a feature of a training picture is not a number")
    present, index = np.unique(labels, return_inverse=True)
    means = np.stack([values[labels == label].mean(axis=0) for label in present])
    deviations = values - means[index]
    if not deviations.any():
        raise ExportError("strangers (--strangers): the training pictures of a class all have the same features")
    return Statistics(means, ledoit_wolf(deviations, assume_centered=True)[0])


def distances(features: NDArray[np.float32], statistics: Statistics) -> NDArray[np.float64]:
    """Compute ``strangeness`` from its definition, in float64: (n,)."""
    found = []
    for mean in statistics.means:
        offset = features.astype(np.float64) - mean
        found.append((offset * np.linalg.solve(statistics.covariance, offset.T).T).sum(axis=1))
    nearest: NDArray[np.float64] = np.min(found, axis=0) / features.shape[1]
    return nearest


def choose_threshold(scores: NDArray[np.floating[Any]], rate: float) -> float:
    """Return the threshold that a picture like these exceeds with a probability of at most ``rate``.

    It is a score of rank ``(n + 1) * (1 - rate)``, rounded up: the bound holds for any distribution of the scores
    (conformal anomaly detection: Laxhammar and Falkman, 2010, "Conformal prediction for distribution-independent
    anomaly detection in streaming vessel data").

    Args:
        scores: ``strangeness`` of the validation pictures, (n,).
        rate: More than 0 and less than 1.

    Raises:
        ExportError: there are too few pictures for this rate.
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    if rank > len(scores):
        needed = math.ceil(1 / rate - 1e-9) - 1
        raise ExportError(
            f"strangers (--strangers): a share of {percent(rate)} needs at least {needed:,} validation pictures, and "
            f"there are {len(scores):,}: pass a share of at least {math.ceil(100 / (len(scores) + 1))}%"
        )
    return math.ceil(float(np.sort(scores)[rank - 1]) * FINEST) / FINEST


def with_strangeness(
    folder: Path,
    model: ModelProto,
    spec: Spec,
    dataset: Dataset,
    test: Split,
    without: NDArray[np.float32],
    rate: float,
) -> tuple[ModelProto, Spec, Strangers]:
    """Add the output ``strangeness`` to a finished graph, choose the threshold, and check both on the test pictures.

    Args:
        folder: The folder of the export.
        model: The graph of a model file, fp32 or int8.
        spec: Its specification, with a certificate.
        dataset: The data set, for its training and validation pictures.
        test: The test pictures.
        without: The probabilities of the graph for them without the output, float32 (n, classes).
        rate: The false alarm rate, more than 0 and less than 1.

    Returns:
        The graph with the output; its specification, which has the rule; and the rule.

    Raises:
        GraphError: no convolution of the network reads what another one computed.
        ExportError: there are too few validation pictures, or the training pictures have no usable features.
        ParityError: the graph does not compute what it must.
    """
    train = dataset.train
    order = np.random.default_rng(0).permutation(len(train.labels))
    picked = np.sort(classes_in_turn(train.labels, order)[:TRAINING_PICTURES])
    features = features_of(model, train.images[picked], "features of training pictures")
    statistics = statistics_of(features, train.labels[picked])
    extended = add_strangeness(model, statistics)
    opened = open_model(with_metadata(extended, spec), device="cpu", outputs=[STRANGENESS])
    validation, _ = _run(opened, dataset.val.images)
    threshold = choose_threshold(validation, rate)
    scores, probabilities = _run(opened, test.images)
    expected = distances(features_of(model, test.images), statistics)
    differences = np.abs(scores - expected) / np.maximum(1, expected)
    changes = np.abs(probabilities - without).max(axis=1)
    reason, worst = "", 0
    if not differences.max() <= TOLERANCE:
        reason = f"{STRANGENESS} differs by up to {differences.max():.3g} from a computation in float64"
        worst = int(differences.argmax())
    elif not changes.max() <= SAME:
        reason = f"the output {STRANGENESS} changes probabilities by up to {changes.max():.3g}"
        worst = int(changes.argmax())
    if reason:
        evidence = {"strangeness": float(differences.max()), "probabilities": float(changes.max())}
        raise parity_failure(folder, f"{reason} (at {test.names[worst]})", evidence)
    alarms = int((scores > threshold).sum())
    rule = Strangers(
        rate=rate,
        threshold=threshold,
        features=features.shape[1],
        training_pictures=len(picked),
        validation_pictures=len(validation),
        test_pictures=len(scores),
        false_alarms=alarms,
        false_alarm_rate=alarms / len(scores),
        interval=exact_interval(alarms, len(scores)),
        difference=float(differences.max()),
    )
    proof = {"images": rule.test_pictures, "difference": rule.difference, "tolerance": TOLERANCE}
    certificate = {**spec.details.get("parity", {}), KEY: proof}
    return extended, replace(spec, details={**spec.details, KEY: asdict(rule), "parity": certificate}), rule


def _run(model: Model, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``strangeness``, float32 (n,), and the probabilities, float32 (n, classes)."""
    names = [STRANGENESS, PROBABILITIES]
    parts = [model.session.run(names, {INPUT: batch}) for batch in batches(pictures, FULL_BATCH)]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
