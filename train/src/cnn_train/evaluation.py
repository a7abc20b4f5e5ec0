"""The final figures: temperature on validation, then the test split, once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the highest likelihood (Guo et al., 2017, arXiv:1706.04599), 0.05 to 20.

    Args:
        logits: float32 (n, classes), of the validation split.
        labels: int64 (n,).
    """
    found = minimize_scalar(
        lambda log: cross_entropy(logits / np.exp(log), labels), bounds=(np.log(0.05), np.log(20)), method="bounded"
    )
    return float(np.exp(found.x))


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood in nats."""
    likelihood = log_softmax(logits.astype(np.float64), axis=1)
    return float(-likelihood[np.arange(len(labels)), labels].mean())


def probabilities_of(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of logits / temperature, float32 (n, classes)."""
    result: NDArray[np.float32] = softmax(logits / np.float32(temperature), axis=1).astype(np.float32)
    return result


def metrics_of(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Loss (at temperature 1), accuracy, precision, recall and F1, as plain JSON; scikit-learn computes them."""
    predicted = logits.argmax(axis=1)
    indices = list(range(len(classes)))
    table = classification_report(
        labels, predicted, labels=indices, target_names=list(classes), output_dict=True, zero_division=0
    )
    averages = {
        f"{kind}_{short}": float(table[f"{kind} avg"][name])
        for kind in ("macro", "weighted")
        for short, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score"))
    }
    per_class = {
        name: {
            "precision": float(table[name]["precision"]),
            "recall": float(table[name]["recall"]),
            "f1": float(table[name]["f1-score"]),
            "support": int(table[name]["support"]),
        }
        for name in classes
    }
    return {
        "images": len(labels),
        "correct": int((predicted == labels).sum()),
        "loss": cross_entropy(logits, labels),
        "accuracy": float(accuracy_score(labels, predicted)),
        **averages,
        "per_class": per_class,
        "confusion": confusion_matrix(labels, predicted, labels=indices).tolist(),
    }


def pixel_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256, hexadecimal, of uint8 pictures (n, h, w, c): export proves with it that it decodes the same pixels."""
    digest = hashlib.sha256(repr(images.shape).encode())
    for start in range(0, len(images), 4096):
        digest.update(images[start : start + 4096].tobytes())
    return digest.hexdigest()
