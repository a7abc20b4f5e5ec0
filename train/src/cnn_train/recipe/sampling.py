"""The pictures of an epoch and their order: shuffled, without some of the easy ones, or balanced over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SKIP_EASY = 0.5
"""Probability with which a picture with a loss below the mean is skipped, if losses are given."""

IMBALANCE = 10
"""Ratio of the largest class to the smallest one from which a warning is printed."""


def epoch_order(
    labels: NDArray[np.int64], seed: int, number: int, *, balance: bool, losses: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """Choose the pictures of one epoch and shuffle them. The result depends on the arguments alone.

    Args:
        labels: int64 (n,), from 0 without gaps.
        seed: Random seed of the training.
        number: Number of the epoch, from 0.
        balance: Draw every class equally often (to within one picture), and every picture of a class equally often:
            large classes show some of their pictures, small ones repeat theirs (class-balanced sampling; Kang et al.,
            2020, arXiv:1910.09217). ``losses`` are ignored then.
        losses: float32 (n,), the latest loss of each picture. Pictures with a loss below the mean are skipped with
            probability :data:`SKIP_EASY` (after Qin et al., 2024, arXiv:2303.04947, but without rescaling the
            gradients). None shows all pictures.

    Returns:
        Positions in ``labels``: int64 (k,), with k = n unless pictures are skipped.
    """
    random = np.random.default_rng([seed, number])
    if not balance:
        order = random.permutation(len(labels))
        if losses is None:
            return order
        easy = losses[order] < losses.mean()
        shown: NDArray[np.int64] = order[~(easy & (random.random(len(order)) < SKIP_EASY))]
        return shown
    sizes = np.bincount(labels)
    quotas = np.full(len(sizes), len(labels) // len(sizes))
    quotas[random.permutation(len(sizes))[: len(labels) % len(sizes)]] += 1
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    drawn = [
        np.concatenate([np.tile(own, quota // len(own)), random.permutation(own)[: quota % len(own)]])
        for own, quota in zip(by_class, quotas, strict=True)
    ]
    return random.permutation(np.concatenate(drawn))


def imbalance_warning(labels: NDArray[np.int64], classes: Sequence[str]) -> str | None:
    """Return a warning if the largest class has at least :data:`IMBALANCE` times the pictures of the smallest one.

    Args:
        labels: int64 (n,), of the training pictures. Every class occurs.
        classes: The name of each class.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    least, most = int(sizes.argmin()), int(sizes.argmax())
    if sizes[most] < IMBALANCE * sizes[least]:
        return None
    return (
        f"the class {classes[most]} has {sizes[most]:,} training pictures, {classes[least]} has {sizes[least]:,}: "
        "pass --balance to draw every class equally often"
    )
