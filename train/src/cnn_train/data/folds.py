"""The folds of a cross-validation: parts of the pictures, of which one is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnn_train.data.group_split import numbered, set_aside_groups
from cnn_train.data.split import set_aside
from cnn_train.data.tree import Records, pictures, selected
from cnn_train.errors import DataError


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
            than 6 with two folds.
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
        have = pictures(int(sizes[rarest]))
        raise DataError(f"{where}: class {classes[rarest]!r} has {have}: {needed} are needed for {count} folds")
    counts = [len(train.labels) // count] * (count - 1)
    if train.groups is None:
        last, *first = set_aside(train.labels, counts, seed)
    else:
        last, *first = set_aside_groups(train.labels, numbered(train.groups), counts, seed)
    parts = [*first, last]
    test = parts.pop(number - 1)
    return {"train": selected(train, np.sort(np.concatenate(parts))), "test": selected(train, test)}
