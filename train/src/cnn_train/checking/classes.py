"""Classes that are nearly empty or missing in a split, classes of unequal size, and folders that are hardly classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import quantity

from cnn_train.checking.finding import Finding
from cnn_train.data.tree import SPLIT_OF
from cnn_train.recipe.sampling import imbalance_warning

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 5
"""Training pictures below which a class is nearly empty."""

SMALL_SHARE = 50
"""A class with less than the median of all classes divided by this is nearly empty too."""

RUBBISH = frozenset(
    [
        *("annotations", "backup", "bak", "cache", "checkpoints", "deleted", "duplicates", "images", "labels"),
        *("new folder", "output", "pictures", "runs", "temp", "thumbnails", "thumbs", "tmp", "to sort", "trash"),
        *("unsorted", "untitled folder"),
    ]
)
"""Names of folders, in lower case, that programs and people make and that are hardly the names of classes."""

_COPY = re.compile(r"( - copy| copy|\([0-9]+\)|~)$|^copy of ", re.IGNORECASE)


def class_findings(labels: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with the classes.

    Args:
        labels: int64 (n,) for each split; ``train`` is one of them.
        classes: The name of each class.
    """
    splits = {name: split for name in classes if (split := _split_in(name))}
    for name in classes:
        # a train is a vehicle too, so its name alone is no sign
        if name in splits and (splits[name] != "train" or len({*splits.values()}) > 1):
            yield Finding("class-name", name, "", f"the name looks like the {splits[name]} split, but it is a class")
        elif name.lower() in RUBBISH or _COPY.search(name):
            yield Finding("class-name", name, "", "programs and people give such names to folders that are no class")
    sizes = {split: np.bincount(found, minlength=len(classes)) for split, found in labels.items()}
    least = max(FEWEST, float(np.median(sizes["train"])) / SMALL_SHARE)
    for name, size in zip(classes, sizes["train"].tolist(), strict=True):
        if size < least:
            yield Finding("small-class", name, "", quantity(size, "training picture"), rank=-size)
    for split, counts in sizes.items():
        for name in (name for name, count in zip(classes, counts, strict=True) if not count and split != "train"):
            yield Finding("missing-class", name, "", f"the {split} split has no picture of it")
    if sizes["train"].all() and (text := imbalance_warning(labels["train"], classes)):
        yield Finding("imbalance", classes[int(sizes["train"].argmin())], "", text.partition(": pass")[0])


def _split_in(name: str) -> str | None:
    """The split that the name of a folder looks like: ``test`` for ``Test_set``."""
    return next((SPLIT_OF[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_OF), None)
