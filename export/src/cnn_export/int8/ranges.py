"""What calibration pictures make of every tensor, and from where to where its int8 values shall reach.

Four ways to choose a range from the same histogram. Which is best differs from network to network, so export tries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.errors import GraphError
from cnn_export.graph.tensors import Tensors

BINS = 2048
SAMPLES = 1 << 18
"""Values of one tensor that a batch adds to its histogram at most, evenly picked; the extremes are always exact."""

PERCENTILE = 99.99
LEVELS = 256
SHRUNK = np.linspace(1.0, 0.2, 81)
"""Shares of the whole range that are tried for the least error or divergence."""

Batches = Callable[[], Iterator[dict[str, NDArray[np.float32]]]]
"""Gives the inputs of the float graph from the start, each time it is called."""


@dataclass(frozen=True)
class Statistics:
    """Of one float tensor over all calibration pictures.

    Attributes:
        low: Least value, or 0 if that is less.
        high: Largest value, or 0 if that is more.
        counts: int64 (BINS,), from ``low`` to ``high``, without exact zeros: int8 has them exactly, whatever the range.
        means: float64 (channels,), along the second axis.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    means: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of every bin, float64 (BINS,)."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def collect(
    model: ModelProto, batches: Batches, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Statistics]:
    """Run a float graph over all batches, twice: for the extremes and means, then for the histograms.

    Args:
        model: Float graph.
        batches: Its inputs.
        advance: Called with the number of pictures after each batch, twice for each picture.

    Returns:
        By name, of the input and of everything that a node computes as float32.

    Raises:
        GraphError: a value is infinite or not a number, so there is no range.
    """
    tensors = Tensors(model)
    names = [model.graph.input[0].name, *tensors.names]
    low, high, sums = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), dict.fromkeys(names, np.zeros(1))
    pictures = 0
    for inputs in batches():
        pictures += len(next(iter(inputs.values())))
        for name, values in {**inputs, **tensors.run(inputs)}.items():
            low[name] = min(low[name], float(values.min(initial=0)))
            high[name] = max(high[name], float(values.max(initial=0)))
            others = (*range(2, values.ndim),)
            sums[name] = sums[name] + values.mean(axis=others, dtype=np.float64).sum(axis=0)
            if not math.isfinite(low[name]) or not math.isfinite(high[name]) or not np.isfinite(sums[name]).all():
                raise GraphError(f"{name} is infinite or not a number for a calibration picture: int8 cannot hold it")
        advance(len(next(iter(inputs.values()))))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for inputs in batches():
        for name, values in {**inputs, **tensors.run(inputs)}.items():
            if high[name] > low[name]:
                picked = values.ravel()[:: -(-values.size // SAMPLES)]
                places = (picked[picked != 0] - low[name]) * (BINS / (high[name] - low[name]))
                counts[name] += np.bincount(np.minimum(places.astype(np.int64), BINS - 1), minlength=BINS)
        advance(len(next(iter(inputs.values()))))
    return {name: Statistics(low[name], high[name], counts[name], sums[name] / pictures) for name in names}


def minmax(found: Statistics) -> tuple[float, float]:
    """All that was seen."""
    return found.low, found.high


def percentile(found: Statistics) -> tuple[float, float]:
    """Without the outermost 0.01% of the values that are not zero, half of it on either side (or all on the one)."""
    total = found.counts.sum()
    if not total:
        return minmax(found)
    sides = (found.low < 0) + (found.high > 0)
    outside = (1 - PERCENTILE / 100) / sides
    below = np.cumsum(found.counts) / total
    edges = np.linspace(found.low, found.high, BINS + 1)
    low = edges[int(np.searchsorted(below, outside, side="right"))] if found.low < 0 else 0.0
    high = edges[int(np.searchsorted(below, 1 - outside)) + 1] if found.high > 0 else 0.0
    return min(float(low), 0.0), max(float(high), 0.0)


def mse(found: Statistics) -> tuple[float, float]:
    """The least mean squared error of a value."""
    values, weights = found.centres, found.counts
    return _best(found, lambda low, high: float(weights @ (values - _rounded(values, low, high)) ** 2))


def entropy(found: Statistics) -> tuple[float, float]:
    """The least divergence of the distribution as int8 can show it from the whole one (Migacz, 2017, "8-bit Inference
    with TensorRT").
    """
    values, counts = found.centres, found.counts.astype(np.float64)

    def divergence(low: float, high: float) -> float:
        inside = (values >= low) & (values <= high)
        if not counts[inside].any():
            return math.inf
        whole = np.where(inside, counts, 0.0)
        first, last = np.flatnonzero(inside)[[0, -1]]
        # what lies outside is taken for the outermost value
        whole[first] += counts[:first].sum()
        whole[last] += counts[last + 1 :].sum()
        levels = np.rint((values - low) / _step(low, high)).astype(np.int64).clip(0, LEVELS - 1)
        occupied = inside & (counts > 0)
        # int8 cannot tell the bins of one level apart: they share what it holds
        held = np.bincount(levels, np.where(inside, counts, 0.0), LEVELS)
        sharing = np.bincount(levels[occupied], minlength=LEVELS)
        shown = np.where(occupied, held[levels] / np.maximum(sharing[levels], 1), 0.0)
        kept = (whole > 0) & (shown > 0)
        p, q = whole[kept] / whole.sum(), shown[kept] / shown.sum()
        lost = whole[(whole > 0) & ~(shown > 0)].sum() / whole.sum()
        return math.inf if lost > 0.5 else float((p * np.log(p / q)).sum()) + lost

    return _best(found, divergence)


METHODS: dict[str, Callable[[Statistics], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def _best(found: Statistics, badness: Callable[[float, float], float]) -> tuple[float, float]:
    """The range, out of those shrunk about zero, with the least of something; the widest of equal ones."""
    if not found.counts.any():
        return minmax(found)
    return min(((found.low * part, found.high * part) for part in SHRUNK), key=lambda ends: badness(*ends))


def _step(low: float, high: float) -> float:
    return (high - low) / (LEVELS - 1)


def _rounded(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    step = _step(low, high)
    zero = round(-low / step)
    rounded: NDArray[np.float64] = (np.rint(values / step + zero).clip(0, LEVELS - 1) - zero) * step
    return rounded
