"""Accuracy, precision, recall and F1 from a confusion matrix, and the confidence intervals of a share.

Training, export and inference share them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


_QUANTILE = 1.959963984540054
"""97.5% quantile of the standard normal distribution."""


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


def exact_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a share (Clopper and Pearson, 1934, Biometrika 26:404).

    Args:
        count: Number of pictures that count, 0 to ``total``.
        total: Number of pictures, at least 1.
        confidence: 0 to 1.

    Returns:
        Lower and upper end, from 0 to 1.
    """
    tail = (1 - confidence) / 2
    low = _bisect(lambda share: 1 - _at_most(count - 1, total, share) < tail) if count else 0.0
    high = _bisect(lambda share: _at_most(count, total, share) > tail) if count < total else 1.0
    return low, high


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """Return the 95% confidence interval of a share (Wilson, 1927, doi:10.1080/01621459.1927.10502953).

    It is valid for few pictures and for shares near 0 and 1 too (Brown, Cai and DasGupta, 2001,
    doi:10.1214/ss/1009213286).

    Args:
        count: Number of pictures that count, 0 to ``total``.
        total: Number of pictures; with 0 the interval is 0 to 1.

    Returns:
        Lower and upper end, from 0 to 1.
    """
    if not total:
        return 0.0, 1.0
    share, squared = count / total, _QUANTILE**2
    middle = (share + squared / (2 * total)) / (1 + squared / total)
    half = _QUANTILE / (1 + squared / total) * math.sqrt(share * (1 - share) / total + squared / (4 * total**2))
    return (0.0 if count == 0 else middle - half), (1.0 if count == total else middle + half)


def _bisect(is_below: Callable[[float], bool]) -> float:
    """The share, 0 to 1, up to which ``is_below`` is true, to 15 digits."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2


def _at_most(count: int, total: int, share: float) -> float:
    """The probability of at most ``count`` of ``total``, 0 to ``total - 1``, if each has the probability ``share``.

    Summed from the largest term of the smaller tail, until terms no longer matter.
    """
    odds = share / (1 - share)
    lower = count < total * share
    start = count if lower else count + 1
    logarithm = math.lgamma(total + 1) - math.lgamma(start + 1) - math.lgamma(total - start + 1)
    term = math.exp(logarithm + start * math.log(share) + (total - start) * math.log1p(-share))
    tail = term
    for place in range(start, 0, -1) if lower else range(start, total):
        term *= place / (total - place + 1) / odds if lower else (total - place) / (place + 1) * odds
        tail += term
        if term < 1e-17 * tail:
            break
    return tail if lower else 1 - tail


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio
