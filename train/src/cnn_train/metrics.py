"""Metrics of a split, temperature calibration, and the digest of pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cnn_infer.metrics import confusion_of, scores_of, wilson_interval
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest

TEMPERATURES = (0.2, 5.0)
"""Range of temperatures that are tried."""

WIDE_INTERVAL = 0.1
"""A 95% interval of an accuracy that is at least this wide is worth a warning: it hardly separates two trainings."""


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the temperature with the highest likelihood (Guo et al., 2017, arXiv:1706.04599).

    It is 1 if the best temperature lies outside of :data:`TEMPERATURES`: the pictures then do not determine it. If a
    few pictures are all correct or all wrong, for example, the best temperature is 0 or infinite.

    Args:
        logits: float32 (n, classes), of the validation split.
        labels: int64 (n,).
    """
    log, _ = _best_temperature(logits, labels)
    return 1.0 if np.abs(log - np.log(TEMPERATURES)).min() < 1e-2 else float(np.exp(log))


def calibrated_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the lowest cross-entropy, in nats, over :data:`TEMPERATURES`; arguments as for :func:`fit_temperature`."""
    _, loss = _best_temperature(logits, labels)
    return loss


def calibrated_error(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the standard error of :func:`calibrated_loss` over the pictures, in nats; arguments as there."""
    log, _ = _best_temperature(logits, labels)
    likelihood = log_softmax(logits.astype(np.float64) / np.exp(log), axis=1)[np.arange(len(labels)), labels]
    return float(likelihood.std() / np.sqrt(len(labels)))


def _best_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The logarithm of the best temperature, and the cross-entropy at it, in nats."""
    found = minimize_scalar(
        lambda log: cross_entropy(logits / np.exp(log), labels), bounds=np.log(TEMPERATURES), method="bounded"
    )
    return float(found.x), float(found.fun)


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood in nats.

    Args:
        logits: float32 (n, classes).
        labels: int64 (n,).
    """
    likelihood = log_softmax(logits.astype(np.float64), axis=1)
    return float(-likelihood[np.arange(len(labels)), labels].mean())


def probabilities_of(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return the softmax of logits / temperature, float32 (n, classes)."""
    result: NDArray[np.float32] = softmax(logits / np.float32(temperature), axis=1).astype(np.float32)
    return result


def metrics_of(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Compute loss, accuracy with its 95% confidence interval, precision, recall, F1 and confusion matrix.

    Args:
        logits: float32 (n, classes), at temperature 1.
        labels: int64 (n,).
        classes: Names, in the order of the logits.

    Returns:
        Plain values for JSON. The loss is in nats; shares are from 0 to 1.
    """
    predicted = logits.argmax(axis=1)
    confusion = confusion_of(labels, predicted, len(classes))
    scores = scores_of(confusion)
    tables = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
    correct = int((predicted == labels).sum())
    return {
        "images": len(labels),
        "correct": correct,
        "loss": cross_entropy(logits, labels),
        "accuracy": correct / len(labels),
        "accuracy_interval": list(wilson_interval(correct, len(labels))),
        **{f"macro_{name}": scores.macro(values) for name, values in tables.items()},
        **{f"weighted_{name}": scores.weighted(values) for name, values in tables.items()},
        "per_class": {
            name: {
                **{key: float(values[index]) for key, values in tables.items()},
                "support": int(scores.support[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test (1947, Psychometrika 12:153), 0 to 1.

    Args:
        only_first: Number of pictures that only the first of two networks classifies correctly.
        only_second: Number of pictures that only the second classifies correctly.
    """
    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0


def difference_interval(only_first: int, only_second: int, total: int) -> tuple[float, float]:
    """Return the 95% confidence interval of the accuracy of the first network minus that of the second, -1 to 1.

    It is paired, and adds half a picture to each count (Agresti and Min, 2005, Statistics in Medicine 24:729).

    Args:
        only_first: Number of pictures that only the first of two networks classifies correctly.
        only_second: Number of pictures that only the second classifies correctly.
        total: Number of pictures, at least 1.
    """
    more, less, count = only_first + 0.5, only_second + 0.5, total + 2
    centre = (more - less) / count
    half = 1.96 * math.sqrt(more + less - (more - less) ** 2 / count) / count
    return centre - half, centre + half


def uncertainty_warning(test: dict[str, Any]) -> str | None:
    """Return a warning if the confidence interval of the test accuracy is wide, else None.

    Args:
        test: From :func:`metrics_of`.
    """
    low, high = test["accuracy_interval"]
    if high - low < WIDE_INTERVAL:
        return None
    return (
        f"{test['images']:,} test {'picture is' if test['images'] == 1 else 'pictures are'} few: the 95% confidence "
        f"interval of the accuracy is {low:.1%} to {high:.1%}; use a larger test split to compare trainings"
    )


def pixel_digest(images: NDArray[np.uint8]) -> str:
    """Return the SHA-256, hexadecimal, of uint8 pictures (n, h, w, c). Export checks its decoded pixels with it."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for picture in images:
        digest.update(picture.tobytes())
    return digest.hexdigest()
