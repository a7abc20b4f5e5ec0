"""Calibration: how well the top probability of a model says how often it is right.

The expected calibration error (ECE) is the mean distance of confidence and accuracy over bins of equal width, weighted
by their numbers of pictures (Naeini et al., 2015, AAAI 29:2901; Guo et al., 2017, arXiv:1706.04599). The Brier score
is the mean squared distance of the probabilities from the true class (Brier, 1950, Monthly Weather Review 78:1), summed
over the classes: from 0, the best, to 2.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15
"""Bins of the top probability, of equal width; a probability on the edge of two belongs to the lower one."""

_UNIT = 1 << 52
"""Sums are integers in units of 1 / ``_UNIT``: exact, and the same in whatever order parts of a run are added."""

_EDGES = [index / BINS for index in range(1, BINS)]


class Calibration:
    """The calibration of a model on labelled pictures, counted picture by picture in constant memory."""

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._right = [0] * BINS
        self._confidence = [0] * BINS
        self._squares = 0

    def add(self, probabilities: NDArray[np.float32], truth: int) -> None:
        """Count one picture.

        Args:
            probabilities: float32 (classes,), with a sum of 1. Those of a broken model that are not a number count as
                0, those outside 0 to 1 as the nearest of both.
            truth: Index of the true class.
        """
        found = int(probabilities.argmax())
        if not (probabilities.min() >= 0 and probabilities[found] < 2):  # also true of NaN
            probabilities = np.clip(np.nan_to_num(probabilities), 0, 1)
        confidence = float(probabilities[found])
        place = bisect_left(_EDGES, confidence)
        self._counts[place] += 1
        self._right[place] += found == truth
        self._confidence[place] += round(confidence * _UNIT)
        self._squares += round((float(probabilities @ probabilities) - 2 * float(probabilities[truth]) + 1) * _UNIT)

    def counted(self) -> list[Any]:
        """Return the counts and sums as plain JSON."""
        return [self._counts, self._right, self._confidence, self._squares]

    @classmethod
    def restored(cls, counted: Any) -> Calibration:
        """Continue from a result of :meth:`counted`.

        Raises:
            ValueError, TypeError, OverflowError: it is no such result.
        """
        found = cls()
        counts, right, confidence, squares = counted
        if not len(counts) == len(right) == len(confidence) == BINS:
            raise ValueError(f"the calibration does not have {BINS} bins")
        found._counts, found._right = [int(count) for count in counts], [int(count) for count in right]
        found._confidence, found._squares = [int(value) for value in confidence], int(squares)
        return found

    def merge(self, other: Calibration) -> None:
        """Add the counts and sums of other pictures."""
        pairs = (self._counts, other._counts), (self._right, other._right), (self._confidence, other._confidence)
        for mine, theirs in pairs:
            mine[:] = [first + second for first, second in zip(mine, theirs, strict=True)]
        self._squares += other._squares

    def results(self) -> dict[str, Any] | None:
        """Return the figures as plain JSON; None without a picture.

        ``images``, ``ece`` (0 to 1), ``brier`` (0 to 2), and ``bins``: for each bin ``count``, and the mean
        ``confidence`` and the ``accuracy`` of its pictures, which are None in an empty bin.
        """
        total = sum(self._counts)
        if not total:
            return None
        confidences = [value / _UNIT for value in self._confidence]
        rows = list(zip(self._counts, self._right, confidences, strict=True))
        return {
            "images": total,
            "ece": sum(abs(right - confidence) for _, right, confidence in rows) / total,
            "brier": self._squares / _UNIT / total,
            "bins": [
                {
                    "count": count,
                    "confidence": confidence / count if count else None,
                    "accuracy": right / count if count else None,
                }
                for count, right, confidence in rows
            ],
        }


def calibration_of(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return the figures of :meth:`Calibration.results` for many pictures.

    Args:
        probabilities: float32 (n, classes), n of at least 1.
        labels: True classes, int64 (n,).
    """
    found = Calibration()
    for row, truth in zip(probabilities, labels.tolist(), strict=True):
        found.add(row, truth)
    figures = found.results()
    assert figures is not None, "there is a picture"
    return figures
