"""Which pictures an epoch shows, and in what order: by chance, or every class equally often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EASY_LEFT_OUT = 0.5

IMBALANCE = 10
"""From how many times the smallest class on the largest one is worth a warning."""


def epoch_order(
    labels: NDArray[np.int64], seed: int, number: int, *, balance: bool, losses: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    """The pictures of one epoch, in the order in which they are shown: all, or those that are worth it.

    Balanced, every class is drawn equally often (to within one picture), and within a class every picture is: large
    classes show a part of theirs in each epoch, small ones repeat theirs (class-balanced sampling; Kang et al., 2020,
    arXiv:1910.09217).

    Args:
        labels: int64 (n,), from 0 without gaps.
        seed: Of the training.
        number: Of the epoch, from 0. With what else is passed it decides alone, so a resumed training repeats it.
        balance: Whether to balance; then there are as many as there are labels.
        losses: float32 (n,), of each picture when it was shown last. Of those below the mean, :data:`EASY_LEFT_OUT`
            are left out by chance (after Qin et al., 2024, arXiv:2303.04947, without their weights). None for all.

    Returns:
        Positions in ``labels``, int64 (n,).
    """
    random = np.random.default_rng([seed, number])
    if not balance:
        order = random.permutation(len(labels))
        if losses is None:
            return order
        easy = losses[order] < losses.mean()
        shown: NDArray[np.int64] = order[~(easy & (random.random(len(order)) < EASY_LEFT_OUT))]
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


def imbalance(labels: NDArray[np.int64], classes: Sequence[str]) -> str | None:
    """What to say of classes that differ :data:`IMBALANCE` times or more in their number of pictures, else None.

    Args:
        labels: int64 (n,), of the training pictures; every class occurs.
        classes: Names.
    """
    sizes = np.bincount(labels, minlength=len(classes))
    least, most = int(sizes.argmin()), int(sizes.argmax())
    if sizes[most] < IMBALANCE * sizes[least]:
        return None
    return (
        f"the class {classes[most]} has {sizes[most]:,} training pictures, {classes[least]} has {sizes[least]:,}: "
        "pass --balance to draw every class equally often"
    )
