"""Latency statistics in constant memory: exact count and mean, percentiles to within 0.5%."""

from __future__ import annotations

import math
from typing import Any

LEAST_MS = 1e-3
STEP = math.log(1.01)
BINS = 2400
"""Each bin is 1% wider than the one before; together they span one microsecond to more than six hours."""


class Histogram:
    """A histogram of times in milliseconds, with logarithmic bins."""

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._sum = 0.0
        self._count = 0

    def add(self, milliseconds: float) -> None:
        """Add one time, at least 0."""
        place = int(math.log(milliseconds / LEAST_MS) / STEP) if milliseconds > LEAST_MS else 0
        self._counts[min(place, BINS - 1)] += 1
        self._sum += milliseconds
        self._count += 1

    def counted(self) -> list[Any]:
        """Return the times as plain JSON: the bins that are not empty as [place, count], and the sum."""
        return [[[place, count] for place, count in enumerate(self._counts) if count], self._sum]

    def merge(self, counted: Any) -> None:
        """Add the times of a result of :meth:`counted`.

        Raises:
            ValueError, TypeError, IndexError: it is no such result.
        """
        bins, total = counted
        for place, count in bins:
            self._counts[place] += int(count)
            self._count += int(count)
        self._sum += float(total)

    def summary(self) -> dict[str, float]:
        """Return ``p50``, ``p90``, ``p99`` and ``mean`` in milliseconds, and the count ``n``; all 0 when empty."""
        if not self._count:
            return {"p50": 0.0, "p90": 0.0, "p99": 0.0, "mean": 0.0, "n": 0}
        percentiles = {f"p{share}": self._percentile(share / 100) for share in (50, 90, 99)}
        return {**percentiles, "mean": self._sum / self._count, "n": self._count}

    def _percentile(self, share: float) -> float:
        """The geometric middle of the bin in which the cumulative count reaches ``share``, 0 to 1, of all times."""
        wanted, seen = share * self._count, 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return LEAST_MS * math.exp((place + 0.5) * STEP)
        raise AssertionError("counts add up")
