"""Accuracy, precision, recall and F1 out of one confusion matrix, equal to scikit-learn's; how certain a share is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


QUANTILE = 1.959963984540054
"""Of the normal distribution at 97.5%: between it and its negative lie 95%."""


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95% confidence interval of a share, from 0 to 1 (Wilson, 1927, doi:10.1080/01621459.1927.10502953).

    Unlike share plus or minus a deviation it holds for few pictures and for shares near 0 and 1 as well (Brown, Cai
    and DasGupta, 2001, doi:10.1214/ss/1009213286).

    Args:
        hits: Pictures that are right, 0 to ``total``.
        total: Pictures, at least 1.
    """
    square = QUANTILE**2
    centre = (hits + square / 2) / (total + square)
    half = QUANTILE * math.sqrt(hits * (total - hits) / total + square / 4) / (total + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def summarise(confusion: NDArray[np.int64], unknown: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Metrics of a classification.

    Args:
        confusion: int64 (classes, classes); rows are true classes, columns predicted ones.
        unknown: int64 (classes,): pictures of each class that the model did not name. They count as wrong.
        classes: Names, in the order of the rows.

    Returns:
        ``labelled`` (how many), ``accuracy``, ``coverage`` (share of pictures that got a name), ``macro_f1`` (over the
        classes that occur, in truth or prediction), ``weighted_f1``, ``per_class`` and ``confusion``. A ratio
        without any picture to count is 0, as scikit-learn's ``zero_division=0`` has it.
    """
    hits = np.diag(confusion).astype(float)
    support = confusion.sum(axis=1) + unknown
    predicted = confusion.sum(axis=0)
    precision = _ratio(hits, predicted)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    occurs = (support + predicted) > 0
    total = int(support.sum())
    return {
        "labelled": total,
        "accuracy": float(hits.sum() / total),
        "coverage": float(confusion.sum() / total),
        "macro_f1": float(f1[occurs].mean()),
        "weighted_f1": float((f1 * support).sum() / total),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
                "unknown": int(unknown[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
    }


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return ratio
