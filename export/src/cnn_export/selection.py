"""Which pictures to take where a few must stand for many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def classes_in_turn(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """``order`` again, with the classes taking turns: the first picture of each, the second of each, and so on.

    Args:
        labels: int64 (n,), of all pictures.
        order: Indices of pictures; those of one class keep their order.
    """
    seen: dict[int, int] = {}
    turn = np.zeros(len(order), np.int64)
    for position, index in enumerate(order):
        label = int(labels[index])
        turn[position] = seen.get(label, 0)
        seen[label] = turn[position] + 1
    return order[np.argsort(turn, kind="stable")]
