"""The final figures: temperature on validation, then the test split, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from cnn_infer.metrics import wilson_interval
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

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

    scikit-learn computes them, and :func:`cnn_infer.metrics.wilson_interval`.
    """
    predicted = logits.argmax(axis=1)
    indices = list(range(len(classes)))
    # not classification_report: it has rows of its own, such as accuracy, which may be the name of a class
    table = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    averages: dict[str, float] = {}
    for kind in ("macro", "weighted"):
        # without labels: over the classes that occur, in truth or prediction, here as in inference
        figures = precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)
        names = (f"{kind}_precision", f"{kind}_recall", f"{kind}_f1")
        averages |= {name: float(figure) for name, figure in zip(names, figures[:3], strict=True)}
    per_class = {
        name: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for name, precision, recall, f1, support in zip(classes, *table, strict=True)
    }
    correct = int((predicted == labels).sum())
    return {
        "images": len(labels),
        "correct": correct,
        "loss": cross_entropy(logits, labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        "accuracy_interval": list(wilson_interval(correct, len(labels))),
        **averages,
        "per_class": per_class,
        "confusion": confusion_matrix(labels, predicted, labels=indices).tolist(),
    }


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
