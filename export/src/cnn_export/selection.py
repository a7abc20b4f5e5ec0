"""The choice of a few pictures that represent many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def classes_in_turn(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Reorder pictures so that classes take turns: first one picture of each class, then a second of each, and so on.

    Args:
        labels: Classes of all pictures, int64 (n,).
        order: Indices of pictures, int64 (at most n,). Pictures of one class stay in this order.

    Returns:
        The indices in ``order``, reordered.
    """
    seen: dict[int, int] = {}
    turn = np.zeros(len(order), np.int64)
    for position, index in enumerate(order):
        label = int(labels[index])
        turn[position] = seen.get(label, 0)
        seen[label] = turn[position] + 1
    return order[np.argsort(turn, kind="stable")]
