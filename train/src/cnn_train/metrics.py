"""The final figures: temperature on validation, then the test split, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from cnn_infer.metrics import confusion_of, scores_of
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest

TEMPERATURES = (0.2, 5.0)
WIDE = 0.1
"""From this width on a 95% interval of an accuracy is worth a warning: two trainings are then hardly told apart."""


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the highest likelihood (Guo et al., 2017, arXiv:1706.04599).

    Where the best lies outside of :data:`TEMPERATURES` the pictures do not determine it, and it is 1: of a few, all
    right or all wrong, it would be nought or infinite, and with it every probability and every comparison of them.

    Args:
        logits: float32 (n, classes), of the validation split.
        labels: int64 (n,).
    """
    log, _ = _best_temperature(logits, labels)
    return 1.0 if np.abs(log - np.log(TEMPERATURES)).min() < 1e-2 else float(np.exp(log))


def calibrated_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The lowest cross-entropy, in nats, at any of :data:`TEMPERATURES`; arguments as of :func:`fit_temperature`."""
    _, loss = _best_temperature(logits, labels)
    return loss


def _best_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Its logarithm, and the cross-entropy there."""
    found = minimize_scalar(
        lambda log: cross_entropy(logits / np.exp(log), labels), bounds=np.log(TEMPERATURES), method="bounded"
    )
    return float(found.x), float(found.fun)


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood in nats."""
    likelihood = log_softmax(logits.astype(np.float64), axis=1)
    return float(-likelihood[np.arange(len(labels)), labels].mean())


def probabilities_of(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits / temperature, float32 (n, classes)."""
    result: NDArray[np.float32] = softmax(logits / np.float32(temperature), axis=1).astype(np.float32)
    return result


def metrics_of(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Loss (at temperature 1), accuracy with its 95% interval, precision, recall and F1, as plain JSON.

    Args:
        logits: float32 (n, classes), at temperature 1.
        labels: int64 (n,).
        classes: Names, in the order of the logits.
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


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95% confidence interval of a share, 0 to 1 (Wilson, 1927, doi:10.1080/01621459.1927.10502953).

    It also holds for few pictures and for shares near 0 and 1 (Brown, Cai and DasGupta, 2001,
    doi:10.1214/ss/1009213286).

    Args:
        correct: Pictures classified right, 0 to ``total``.
        total: Pictures, at least 1.
    """
    interval = binomtest(correct, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def uncertainty(test: dict[str, Any]) -> str | None:
    """What to say of a test accuracy that its few pictures leave open by :data:`WIDE` or more, else None.

    Args:
        test: As of :func:`metrics_of`.
    """
    low, high = test["accuracy_interval"]
    if high - low < WIDE:
        return None
    return (
        f"{test['images']:,} test pictures say little: with 95% confidence the accuracy is between {low:.1%} and "
        f"{high:.1%}; put more into the test split before you compare or rely on it"
    )


def pixel_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256, hexadecimal, of uint8 pictures (n, h, w, c): export proves with it that it decodes the same pixels."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for picture in images:
        digest.update(picture.tobytes())
    return digest.hexdigest()
