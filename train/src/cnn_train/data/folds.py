"""The folds of a cross-validation: parts of the pictures, of which one is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import quantity

from cnn_train.data.group_split import numbered, set_aside_groups
from cnn_train.data.split import set_aside
from cnn_train.data.tree import Records, selected
from cnn_train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def with_fold(
    where: str, splits: Mapping[str, Records], classes: Sequence[str], fold: tuple[int, int], seed: int
) -> dict[str, Records]:
    """Make one fold of the training pictures the test split, and the other folds the training split.

    The folds are stratified and part no group. They depend on the random seed and not on the fold that is asked for.

    Args:
        where: The data set, for messages.
        splits: The given splits: ``train`` alone.
        classes: The names of the classes.
        fold: The number of the fold, from 1, and the number of folds.
        seed: Random seed, 0 or greater.

    Raises:
        DataError: there are other splits, or a class has fewer pictures than there are folds, or fewer than 4, or
            than 6 with two folds; or, with groups, a class has too few groups.
    """
    number, count = fold
    if len(splits) > 1:
        others = " and ".join(name for name in splits if name != "train")
        raise DataError(
            f"{where} has the split {others}, but each fold is the test split once: give the training pictures alone"
        )
    train = splits["train"]
    sizes = np.bincount(train.labels, minlength=len(classes))
    # with two folds, the test split may take 3 of 5, and training needs 2
    rarest, needed = int(sizes.argmin()), 6 if count == 2 else max(count, 4)
    if sizes[rarest] < needed:
        have = quantity(int(sizes[rarest]), "picture")
        raise DataError(f"{where}: class {classes[rarest]!r} has {have}: {needed} are needed for {count} folds")
    counts = [len(train.labels) // count] * (count - 1)
    if train.groups is None:
        last, *first = set_aside(train.labels, counts, seed)
    else:
        last, *first = set_aside_groups(train.labels, numbered(train.groups), counts, seed)
    parts = [*first, last]
    if train.groups is not None:
        _check_groups(where, train.labels, numbered(train.groups), classes, parts)
    test = parts.pop(number - 1)
    return {"train": selected(train, np.sort(np.concatenate(parts))), "test": selected(train, test)}


def _check_groups(
    where: str,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: Sequence[str],
    parts: Sequence[NDArray[np.int64]],
) -> None:
    """Refuse folds of which one could not be trained, before the first one is."""
    pairs = [np.unique(np.stack([labels[part], groups[part]]), axis=1)[0] for part in parts]
    held = np.array([np.bincount(found, minlength=len(classes)) for found in pairs])  # groups by fold and class
    totals = held.sum(axis=0)
    # each fold needs a group, and the other folds two, for training and validation
    rarest, needed = int(totals.argmin()), 4 if len(parts) == 2 else len(parts)
    if totals[rarest] < needed:
        have = quantity(int(totals[rarest]), "group")
        raise DataError(f"{where}: class {classes[rarest]!r} has {have}: {needed} are needed for {len(parts)} folds")
    left = totals - held.max(axis=0)
    worst = int(left.argmin())
    if left[worst] < 2:
        most, number = held[:, worst].max(), 1 + int(held[:, worst].argmax())
        raise DataError(
            f"{where}: {most} of {totals[worst]} groups of class {classes[worst]!r} are in fold {number}, and the "
            "other folds need two for training and validation: pass another number with --folds"
        )
