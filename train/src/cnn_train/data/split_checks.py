"""What is wrong between the splits: pictures in two of them, pictures with two labels, classes without pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import progress, quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_train.data.dataset import Dataset

MOST_CROPPED = 0.5
"""Largest share of the median picture that is cropped without a warning."""

MOST_NAMES = 5
"""Most class names in one warning."""


def comparison_warnings(dataset: Dataset) -> list[str]:
    """Compare the splits of a data set, and return a warning for each kind of problem.

    Pictures are equal if all their pixels are, after decoding and resizing. A digest of 16 bytes is kept for each.

    Args:
        dataset: The decoded pictures.

    Returns:
        One line each, with counts and an example.
    """
    warnings = [text for name in ("val", "test") if (text := _missing_classes(dataset, name))]
    groups = _groups(dataset)
    for first, second in combinations(dataset.splits, 2):
        if text := _shared(dataset, groups, first, second):
            warnings.append(text)
    if text := _contradictions(dataset, np.concatenate(list(groups.values()))):
        warnings.append(text)
    return warnings


def crop_warning(dataset: Dataset) -> str | None:
    """Return a warning if cropping cuts off more than half of the median picture."""
    if dataset.cropped <= MOST_CROPPED:
        return None
    return (
        f"crop cuts off {dataset.cropped:.0%} of the median picture to fill {dataset.width} x {dataset.height} pixels: "
        "pass --resize pad to keep whole pictures, or a --size HEIGHTxWIDTH of their shape"
    )


def _missing_classes(dataset: Dataset, name: str) -> str | None:
    classes = dataset.source.classes
    counts = np.bincount(dataset.splits[name].labels, minlength=len(classes))
    missing = [each for each, count in zip(classes, counts, strict=True) if not count]
    if not missing:
        return None
    which = f"the class {missing[0]}" if len(missing) == 1 else f"{len(missing):,} classes: {shortened(missing)}"
    return f"the {name} split has no picture of {which}"


def _groups(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """For each split a number per picture, int64 (n,), that is the same for pictures with equal pixels."""
    sizes = [len(split.labels) for split in dataset.splits.values()]
    digests = np.empty((sum(sizes), 2), np.uint64)
    row = 0
    with progress("comparing the splits", sum(sizes)) as advance:
        for split in dataset.splits.values():
            for picture in split.images:
                digest = hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest()
                digests[row] = np.frombuffer(digest, np.uint64)
                row += 1
                advance(1)
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(np.r_[False, (ordered[1:] != ordered[:-1]).any(axis=1)])
    return dict(zip(dataset.splits, np.split(numbers, np.cumsum(sizes)[:-1]), strict=True))


def _shared(dataset: Dataset, groups: dict[str, NDArray[np.int64]], first: str, second: str) -> str | None:
    """A warning if pictures of the split ``second`` are in the split ``first`` too."""
    at = np.flatnonzero(np.isin(groups[second], groups[first]))
    if not len(at):
        return None
    twin = int(np.flatnonzero(groups[first] == groups[second][at[0]])[0])
    names = [dataset.splits[second].names[int(at[0])], dataset.splits[first].names[twin]]
    are = "is" if len(at) == 1 else "are"
    return (
        f"{len(at):,} of {quantity(len(groups[second]), f'{second} picture')} {are} in the {first} split too, so "
        f"that the {second} accuracy is too high: remove the copies ({names[0]} equals {names[1]})"
    )


def _contradictions(dataset: Dataset, groups: NDArray[np.int64]) -> str | None:
    """A warning if equal pictures have different labels.

    Args:
        dataset: The decoded pictures.
        groups: int64 (n,), over all splits, from 0 without gaps.
    """
    labels = np.concatenate([split.labels for split in dataset.splits.values()])
    least, most = np.full(groups.max() + 1, len(dataset.source.classes)), np.full(groups.max() + 1, -1)
    np.minimum.at(least, groups, labels)
    np.maximum.at(most, groups, labels)
    double = np.flatnonzero(least != most)
    if not len(double):
        return None
    members = np.flatnonzero(groups == double[0])
    pair = [int(members[np.argmin(labels[members])]), int(members[np.argmax(labels[members])])]
    example = " and ".join(f"{_name_at(dataset, at)} ({dataset.source.classes[labels[at]]})" for at in pair)
    have = "has" if len(double) == 1 else "have"
    return f"{quantity(len(double), 'picture')} {have} more than one label: remove the wrong ones ({example} are equal)"


def _name_at(dataset: Dataset, at: int) -> str:
    """The name of a picture by its position over all splits."""
    for split in dataset.splits.values():
        if at < len(split.labels):
            break
        at -= len(split.labels)
    return split.names[at]


def shortened(names: Sequence[str], most: int = MOST_NAMES) -> str:
    """Join names with commas; after ``most`` of them, write how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
