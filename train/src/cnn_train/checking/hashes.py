"""All pairs of 64-bit hashes within a small Hamming distance, without comparing each with each.

Multi-index hashing (Norouzi et al., 2012, "Fast Search in Hamming Space with Multi-Index Hashing",
doi:10.1109/CVPR.2012.6248043): two hashes at a distance of at most 7 agree, but for at most one bit, in at least one of
their four bands of 16 bits. So each band is looked up as it is and with each of its bits flipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DISTANCE = 7
"""Pairs at this Hamming distance or below are always found."""

BANDS, WIDTH = 4, 16
BLOCK = 1 << 18
"""Largest number of pairs that are looked at together, unless one hash has more in one band."""

STEPS = BANDS * (WIDTH + 1)
"""Number of calls of ``advance`` in :func:`close_pairs`."""


def close_pairs(
    queries: NDArray[np.uint64], hashes: NDArray[np.uint64], advance: Callable[[int], None]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs i > j with ``queries[i]`` and ``hashes[j]`` at most :data:`DISTANCE` bits apart, in blocks.

    Each pair is yielded once. Memory grows with n, not with the number of pairs.

    Args:
        queries: uint64 (n,).
        hashes: uint64 (n,); the same array to compare hashes with each other.
        advance: Called with 1 after each of :data:`STEPS` steps.

    Yields:
        i and j, int64 (k,) each.
    """
    asked, stored = _bands(queries), _bands(hashes)
    for band in range(BANDS):
        order = np.argsort(stored[:, band], kind="stable")
        edges = np.searchsorted(stored[order, band], np.arange((1 << WIDTH) + 1))
        for mask in (0, *(1 << bit for bit in range(WIDTH))):
            wanted = (asked[:, band] ^ np.uint16(mask)).astype(np.int64)
            first, counts = edges[wanted], edges[wanted + 1] - edges[wanted]
            for rows in _blocks(counts):
                here = counts[rows]
                places = np.arange(here.sum()) - np.repeat(np.cumsum(here) - here, here)
                i, j = np.repeat(rows, here), order[np.repeat(first[rows], here) + places]
                keep = (i > j) & (np.bitwise_count(queries[i] ^ hashes[j]) <= DISTANCE)
                i, j = i[keep], j[keep]
                for earlier in range(band):  # where the pair was found before
                    keep = np.bitwise_count(asked[i, earlier] ^ stored[j, earlier]) > 1
                    i, j = i[keep], j[keep]
                if len(i):
                    yield i, j
            advance(1)


def _bands(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """uint16 (n, 4): the bits of each hash, 16 at a time."""
    return np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, BANDS)


def _blocks(counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows with candidates, int64, so many at a time that they have about :data:`BLOCK` candidates together."""
    rows = np.flatnonzero(counts)
    numbers = np.cumsum(counts[rows]) // BLOCK
    yield from np.split(rows, np.flatnonzero(np.diff(numbers)) + 1)
