"""Statistics of each tensor on the calibration pictures, and the calibration ranges that follow from them.

Four methods choose a range from the same histogram. Which one is best depends on the network, so the search tries all.
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
"""Largest number of values of a tensor that one batch adds to its histogram. Minimum and maximum use all values."""

SEED = 0
"""Random seed of the sampled values."""

PERCENTILE = 99.99
LEVELS = 256
SHRUNK = np.linspace(1.0, 0.2, 81)
"""Candidate ranges, as shares of the whole range, among which the least error or divergence is searched."""

Batches = Callable[[], Iterator[dict[str, NDArray[np.float32]]]]
"""Returns the inputs of the float graph, from the first batch on, each time it is called."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of one float tensor over all calibration pictures.

    Attributes:
        low: Smallest value, at most 0.
        high: Largest value, at least 0.
        counts: Histogram from ``low`` to ``high``, int64 (BINS,). Exact zeros are not counted, because int8 represents
            them exactly with every range.
        means: Mean of each channel (second axis), float64 (channels,).
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    means: NDArray[np.float64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """The centre of each bin, float64 (BINS,)."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def collect(
    model: ModelProto, batches: Batches, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Statistics]:
    """Collect the statistics of all tensors of a float graph.

    The graph runs over all batches twice: first for extremes and means, then for the histograms.

    Args:
        model: Float graph.
        batches: Its inputs.
        advance: Called after each batch with its number of pictures, so twice for each picture.

    Returns:
        Statistics by tensor name, for the input and for each float32 tensor that a node computes.

    Raises:
        GraphError: A value is infinite or not a number, so the tensor has no range.
        DeviceError: ONNX Runtime is not installed.
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
    random = np.random.default_rng(SEED)
    for inputs in batches():
        for name, values in {**inputs, **tensors.run(inputs)}.items():
            if high[name] > low[name]:
                sample = _sample(values, random)
                bins = (sample[sample != 0] - low[name]) * (BINS / (high[name] - low[name]))
                counts[name] += np.bincount(np.minimum(bins.astype(np.int64), BINS - 1), minlength=BINS)
        advance(len(next(iter(inputs.values()))))
    return {name: Statistics(low[name], high[name], counts[name], sums[name] / pictures) for name in names}


def _sample(values: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return at most :data:`SAMPLES` values, one from a random place in each of as many strides of equal length.

    A fixed place in each stride would select the same few columns of every picture where the stride and the width have
    a common divisor, and borders would count too much or not at all.
    """
    flat = values.ravel()
    stride = -(-flat.size // SAMPLES)
    if stride <= 1:
        return flat
    starts = np.arange(0, flat.size, stride)
    sample: NDArray[np.float32] = flat[np.minimum(starts + random.integers(stride, size=len(starts)), flat.size - 1)]
    return sample


def minmax(found: Statistics) -> tuple[float, float]:
    """Return the range of all values."""
    return found.low, found.high


def percentile(found: Statistics) -> tuple[float, float]:
    """Return the range without the outermost 0.01% of the nonzero values.

    Half of them are cut on each side, or all on one side if the other side has no values.
    """
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
    """Return the range with the least mean squared rounding error."""
    values, weights = found.centres, found.counts
    return _best(found, lambda low, high: float(weights @ (values - _rounded(values, low, high)) ** 2))


def entropy(found: Statistics) -> tuple[float, float]:
    """Return the range with the least KL divergence between the histogram before and after rounding.

    (Migacz, 2017, "8-bit Inference with TensorRT".)
    """
    values, counts = found.centres, found.counts.astype(np.float64)

    def divergence(low: float, high: float) -> float:
        inside = (values >= low) & (values <= high)
        if not counts[inside].any():
            return math.inf
        whole = np.where(inside, counts, 0.0)
        first, last = np.flatnonzero(inside)[[0, -1]]
        # int8 saturates: values outside of the range become its ends
        whole[first] += counts[:first].sum()
        whole[last] += counts[last + 1 :].sum()
        levels = np.rint((values - low) / _step(low, high)).astype(np.int64).clip(0, LEVELS - 1)
        occupied = inside & (counts > 0)
        # the bins of one level share its count, because int8 does not tell them apart
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
"""Each method returns the ends of the range, low <= 0 <= high."""


def _best(found: Statistics, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """Return the range with the least cost among the :data:`SHRUNK` ones, the widest of equal ones."""
    if not found.counts.any():
        return minmax(found)
    return min(((found.low * share, found.high * share) for share in SHRUNK), key=lambda ends: cost(*ends))


def _step(low: float, high: float) -> float:
    return (high - low) / (LEVELS - 1)


def _rounded(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    step = _step(low, high)
    zero = round(-low / step)
    rounded: NDArray[np.float64] = (np.rint(values / step + zero).clip(0, LEVELS - 1) - zero) * step
    return rounded
