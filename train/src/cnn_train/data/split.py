"""Setting pictures aside: stratified, seeded, and the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def set_aside(labels: NDArray[np.int64], counts: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Divide the positions of ``labels`` into what is left and one part for each of ``counts``.

    Every class keeps its share in every part, and at least one picture: a part is larger than its count
    where there are more classes than that. The result depends on the order of ``labels`` and on the seed,
    not on the platform.

    Args:
        labels: Class of each picture, shape (n,), from 0 without gaps; each class at least
            ``len(counts) + 1`` times.
        counts: Pictures wanted in each part.
        seed: 0 or greater.

    Returns:
        ``len(counts) + 1`` sorted arrays of positions: what is left comes first.

    Raises:
        ValueError: a class has too few pictures, or there are none.
    """
    # Not scikit-learn's train_test_split: it refuses when a part has fewer pictures than there are classes or
    # a class has only one to give. And raw PCG64 numbers are what NumPy promises never to change (NEP 19).
    sizes = np.bincount(labels)
    if not len(sizes) or sizes.min() <= len(counts):
        raise ValueError("each class needs a picture for each part")
    keys = np.random.PCG64(seed).random_raw(len(labels))
    shuffled = np.lexsort((keys, labels))  # class by class, in random order within each
    starts = np.cumsum(sizes) - sizes
    part = np.zeros(len(labels), np.int64)
    taken = np.zeros_like(sizes)
    for number, count in enumerate(counts, start=1):
        still_needed = len(counts) - number + 1  # one for each later part and one for what is left
        quotas = _quotas(sizes, count, sizes - taken - still_needed)
        for start, first, quota in zip(starts, taken, quotas, strict=True):
            part[shuffled[start + first : start + first + quota]] = number
        taken += quotas
    return [np.flatnonzero(part == number) for number in range(len(counts) + 1)]


def _quotas(sizes: NDArray[np.int64], count: int, limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """One picture a class, the rest of ``count`` in proportion (largest remainders), none above its limit."""
    spare = max(0, count - len(sizes))
    whole, remainders = np.divmod(sizes * spare, sizes.sum())
    rounded_up = np.argsort(-remainders, kind="stable")[: spare - whole.sum()]
    quotas: NDArray[np.int64] = whole + 1
    quotas[rounded_up] += 1
    return np.minimum(quotas, limits)
