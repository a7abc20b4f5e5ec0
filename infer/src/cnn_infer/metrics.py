"""Accuracy, precision, recall and F1 from a confusion matrix. Training, export and inference share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Scores(NamedTuple):
    """Metrics of each class. Every field has shape (classes,).

    A ratio whose denominator is 0 is 0, as with scikit-learn's ``zero_division=0``.

    Attributes:
        precision: float64, 0 to 1.
        recall: float64, 0 to 1.
        f1: float64, 0 to 1.
        support: int64, number of pictures of the class.
        occurs: bool, whether the class is the true or the predicted class of any picture.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    occurs: NDArray[np.bool_]

    def macro(self, values: NDArray[np.float64]) -> float:
        """Return the mean of ``values``, shape (classes,), over the classes that occur."""
        return float(values[self.occurs].mean())

    def weighted(self, values: NDArray[np.float64]) -> float:
        """Return the mean of ``values``, shape (classes,), weighted by support."""
        return float((values * self.support).sum() / self.support.sum())


def confusion_of(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix, int64 (classes, classes): rows are true classes, columns predicted classes.

    Args:
        truth: int64 (n,), the index of each picture's true class.
        predicted: int64 (n,), the index of each picture's predicted class.
        classes: Number of classes.
    """
    flat = np.bincount(truth * classes + predicted, minlength=classes * classes)
    matrix: NDArray[np.int64] = flat.reshape(classes, classes).astype(np.int64)
    return matrix


def scores_of(confusion: NDArray[np.int64], unknown: NDArray[np.int64] | None = None) -> Scores:
    """Return the metrics of each class.

    Args:
        confusion: int64 (classes, classes); rows are true classes, columns predicted classes.
        unknown: int64 (classes,), number of pictures of each class whose label is ``unknown``. They count as wrong.
            None means 0 for each class.
    """
    hits = np.diag(confusion).astype(float)
    support = confusion.sum(axis=1) + (0 if unknown is None else unknown)
    predicted = confusion.sum(axis=0)
    return Scores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
        occurs=(support + predicted) > 0,
    )


def summarise(confusion: NDArray[np.int64], unknown: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of a :class:`~cnn_infer.evaluation.Report` as plain JSON.

    Args:
        confusion: int64 (classes, classes); rows are true classes, columns predicted classes. At least one picture.
        unknown: int64 (classes,), number of pictures of each class whose label is ``unknown``. They count as wrong.
        classes: The class names, in the order of the rows.

    Returns:
        ``labelled``, ``accuracy``, ``coverage``, ``macro_f1``, ``weighted_f1``, ``per_class`` and ``confusion``.
    """
    scores = scores_of(confusion, unknown)
    total = int(scores.support.sum())
    return {
        "labelled": total,
        "accuracy": float(np.trace(confusion) / total),
        "coverage": float(confusion.sum() / total),
        "macro_f1": scores.macro(scores.f1),
        "weighted_f1": scores.weighted(scores.f1),
        "per_class": {
            name: {
                "precision": float(scores.precision[index]),
                "recall": float(scores.recall[index]),
                "f1": float(scores.f1[index]),
                "support": int(scores.support[index]),
                "unknown": int(unknown[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio
