"""Random splits that never part a group: the pictures of one patient, camera or session stay together.

Pictures of one group resemble each other, so a network that has seen some of them is tested too well on the others.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import quantity
from cnn_infer.paths.naming import printable

from cnn_train.data.tree import SPLIT_NAMES, Records
from cnn_train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def set_aside_groups(
    labels: NDArray[np.int64], groups: NDArray[np.int64], counts: Sequence[int], seed: int
) -> list[NDArray[np.int64]]:
    """Divide positions at random into one part for each of ``counts``, and the rest, without parting a group.

    First each part gets a small group of each class that it lacks. The other groups, the largest first, go to the part
    that lacks most of their classes, as in scikit-learn's ``StratifiedGroupKFold``. That class is not used because its
    splits change between releases (up to 1.7 they were not even stratified if shuffled), and export must find the same
    test split again. The result depends on the order of the positions and on the seed, not on the platform.

    Args:
        labels: int64 (n,), from 0 without gaps.
        groups: int64 (n,), from 0 without gaps.
        counts: Number of pictures wanted in each part. Groups of different sizes meet it more or less closely.
        seed: Random seed, 0 or greater.

    Returns:
        ``len(counts) + 1`` sorted arrays of positions, int64: the rest, then the parts.
    """
    sizes = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1), np.int64)  # pictures by group and class
    np.add.at(sizes, (groups, labels), 1)
    totals = sizes.sum(axis=0)
    wanted = np.outer([len(labels) - sum(counts), *counts], totals / len(labels))
    part = np.full(len(sizes), -1)
    filled = np.zeros_like(wanted)
    free = (sizes > 0).sum(axis=0)  # groups of each class that have no part yet

    def give(group: int, number: int) -> None:
        part[group] = number
        filled[number] += sizes[group]
        free[sizes[group] > 0] -= 1

    order = np.random.PCG64(seed).random_raw(len(sizes)).argsort(kind="stable")
    upwards = order[sizes[order].sum(axis=1).argsort(kind="stable")]
    rarest_first = (sizes > 0).sum(axis=0).argsort(kind="stable")
    for number in range(1, len(wanted)):
        kept = len(counts) - number + 1  # of each class: a group for each later part, and one for the rest
        for label in rarest_first:
            if not filled[number, label] and free[label] > kept:
                left = upwards[(part[upwards] < 0) & (sizes[upwards, label] > 0)]
                group = next((group for group in left if free[sizes[group] > 0].min() > kept), None)
                if group is not None:
                    give(int(group), number)
    for group in upwards[::-1]:
        if part[group] < 0:
            # exact sums, because a sum of floats may differ between processors
            excess = [math.fsum(row) for row in (filled - wanted) / totals**2 * sizes[group]]
            give(int(group), excess.index(min(excess)))
    return [np.flatnonzero(part[groups] == number) for number in range(len(wanted))]


def grouped_by_path(splits: Mapping[str, Records], location: str | None, pattern: str) -> dict[str, Records]:
    """Set the group of each picture to what the first parentheses of a regular expression match in its path.

    Args:
        splits: The data set.
        location: Its folder. Paths below it are searched, with slashes.
        pattern: A regular expression with parentheses.

    Raises:
        DataError: the pattern is not such an expression, the pictures have no paths or have groups already, or a path
            does not match.
    """
    try:
        expression = re.compile(pattern)
        if not expression.groups:
            raise re.error("there are none")
    except re.error as error:
        raise DataError(f"--group {pattern!r} is not a regular expression with parentheses: {error}") from error
    start = len(os.path.join(location or "", ""))
    result, unmatched, example = {}, 0, ""
    for name, records in splits.items():
        if isinstance(records.pictures, np.ndarray):
            raise DataError("no effect on pictures without paths: --group")
        if records.groups is not None:
            raise DataError("the labels file has a column group: leave out --group, or rename the column")
        found = np.empty(len(records.labels), object)
        for at, path in enumerate(records.pictures):
            below = path[start:].replace(os.sep, "/")
            match = expression.search(below)
            found[at] = match[1] if match else None
            if found[at] is None:
                unmatched, example = unmatched + 1, example or printable(below)
        result[name] = replace(records, groups=found)
    if unmatched:
        raise DataError(
            f"--group {pattern!r} gives {quantity(unmatched, 'picture')} no group, such as {example}: "
            "every path must match"
        )
    return result


def numbered(groups: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return a number for each group, int64 (n,), from 0 without gaps, in the order in which groups first occur."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.int64)


def check_groups(where: str, splits: Mapping[str, Records], classes: Sequence[str], parts: int) -> None:
    """Check that the given splits part no group, and that each class has enough groups for the splits to be made.

    Args:
        where: The data set, for messages.
        splits: The given splits; all have groups, or none has.
        classes: The names of the classes.
        parts: Number of splits that the training split will be divided into, 1 if all are given.

    Raises:
        DataError: a group is in two splits, or a class has fewer groups than parts.
    """
    home: dict[str, str] = {}
    parted: dict[str, str] = {}
    for name, records in ((name, splits[name]) for name in SPLIT_NAMES if name in splits):
        for group in records.groups if records.groups is not None else ():
            if home.setdefault(group, name) != name:
                parted.setdefault(group, name)
    if parted:
        group, name = next(iter(parted.items()))
        are = "1 group is" if len(parted) == 1 else f"{len(parted):,} groups are"
        raise DataError(
            f"{where}: {are} in two splits, which makes the figures of the second too good ({group!r} is in "
            f"{home[group]} and {name}): move their pictures into one split"
        )
    train = splits["train"]
    if train.groups is None or parts == 1:
        return
    pairs = {(int(label), group) for label, group in zip(train.labels, train.groups, strict=True)}
    numbers = np.bincount([label for label, _ in pairs], minlength=len(classes))
    rarest = int(numbers.argmin())
    if numbers[rarest] < parts:
        have = "1 group" if numbers[rarest] == 1 else f"{numbers[rarest]} groups"
        raise DataError(f"{where}: class {classes[rarest]!r} has {have}: {parts} are needed, one for each split")
