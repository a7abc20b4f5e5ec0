"""Random stratified splits that are the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def set_aside(labels: NDArray[np.int64], counts: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Divide the positions of ``labels`` at random into one part for each of ``counts``, and the rest.

    Every part has the classes in their proportions, and at least one picture of each class. So a part is larger than
    its count if there are more classes than that. The result depends on the order of ``labels`` and on the seed, not
    on the platform.

    Args:
        labels: int64 (n,), from 0 without gaps; each class at least ``len(counts) + 1`` times.
        counts: Number of pictures wanted in each part.
        seed: Random seed, 0 or greater.

    Returns:
        ``len(counts) + 1`` sorted arrays of positions, int64: the rest, then the parts.

    Raises:
        ValueError: a class has too few pictures, or there are no pictures.
    """
    # scikit-learn's train_test_split refuses parts with fewer pictures than classes. Raw PCG64 numbers are used because
    # NumPy guarantees that they never change (NEP 19).
    sizes = np.bincount(labels)
    if not len(sizes) or sizes.min() <= len(counts):
        raise ValueError("each class needs a picture for each part")
    keys = np.random.PCG64(seed).random_raw(len(labels))
    shuffled = np.lexsort((keys, labels))  # sorted by class, in random order within a class
    starts = np.cumsum(sizes) - sizes
    part = np.zeros(len(labels), np.int64)
    taken = np.zeros_like(sizes)
    for number, count in enumerate(counts, start=1):
        still_needed = len(counts) - number + 1  # one for each later part and one for the rest
        quotas = _quotas(sizes, count, sizes - taken - still_needed)
        for start, first, quota in zip(starts, taken, quotas, strict=True):
            part[shuffled[start + first : start + first + quota]] = number
        taken += quotas
    return [np.flatnonzero(part == number) for number in range(len(counts) + 1)]


def _quotas(sizes: NDArray[np.int64], count: int, limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide ``count`` over the classes: one each, the others in proportion to ``sizes`` by largest remainders.

    Args:
        sizes: int64 (classes,), number of pictures of each class.
        count: Number of pictures to divide.
        limits: int64 (classes,), the most that each class may give.

    Returns:
        int64 (classes,), at least 1 each.
    """
    spare = max(0, count - len(sizes))
    whole, remainders = np.divmod(sizes * spare, sizes.sum())
    rounded_up = np.argsort(-remainders, kind="stable")[: spare - whole.sum()]
    quotas: NDArray[np.int64] = whole + 1
    quotas[rounded_up] += 1
    return np.minimum(quotas, limits)
