"""From the name or folder of a data set to three splits of labelled pictures, not decoded yet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from cnn_infer.console import quantity
from cnn_infer.paths.naming import composed, folder_name

from cnn_train.data.folds import with_fold
from cnn_train.data.group_split import check_groups, grouped_by_path, numbered, set_aside_groups
from cnn_train.data.layouts import Layout, find_layout
from cnn_train.data.split import set_aside
from cnn_train.data.tree import Records, labels_file_hint, selected
from cnn_train.errors import DataError
from cnn_train.options import fold_of

MAX_VALIDATION = 5000
"""Most pictures that a validation split is made of: a tenth of the training pictures, but no more than this."""


@dataclass(frozen=True)
class Source:
    """A data set on this machine.

    Attributes:
        name: The name of the data set, valid as part of a file name.
        location: Absolute path of its folder; None if it is a part of a library.
        classes: The name of each class, in the order of the labels. Each is a valid folder name on every system, in
            Unicode's composed form (NFC).
        splits: ``train``, ``val`` and ``test``.
        notes: Decisions that the user should know about, one line each.
        missing: One line on the pictures that a labels file names and that do not exist; empty if there are none.
        name_form: The Unicode form (``NFC`` or ``NFD``) in which fingerprints spell the names of files; None for the
            names as they are on the disk.
        labels_file: Absolute path of the file in ``location`` that names the pictures and classes; None without one.
    """

    name: str
    location: str | None
    classes: tuple[str, ...]
    splits: Mapping[str, Records]
    notes: tuple[str, ...]
    missing: str = ""
    name_form: Literal["NFC", "NFD"] | None = None
    labels_file: str | None = None

    @property
    def path(self) -> str | None:
        """Absolute path that opens the data set again; None if it is a part of a library."""
        return self.labels_file or self.location


def open_source(
    data: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    group: str | None = None,
    fold: str | None = None,
) -> Source:
    """Find a data set and divide it into three splits.

    A missing test split is made of a tenth of the training pictures, a missing validation split of a tenth and at most
    :data:`MAX_VALIDATION`. Both are stratified, and drawn by the random seed.

    Args:
        data: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or a folder with IDX files (optionally with a
            ``classes.txt`` that has one name per line), CIFAR-10's pickles, ``train`` and optionally ``val`` and
            ``test`` (in upper or lower case; :data:`cnn_train.data.tree.SPLIT_NAMES` lists other names such as
            ``validation``), or one subfolder per class. ``./mnist`` is a folder, ``mnist`` the named data set. Or a
            labels file beside the pictures: CSV or JSON lines with the path and the class of each, and optionally its
            split; :func:`cnn_train.data.label_table.read_labels` has the rules.
        data_dir: The folder to search for named data sets first.
        seed: Random seed of the splits, 0 or greater.
        classes: The order of the class folders, if they have exactly these names. Otherwise they are sorted as they
            are on the disk, where Unicode may write accents in another form (macOS).
        columns: The columns of a labels file that name the picture and its class. Default: ``file_name``, ``label``.
        group: A regular expression. What its first parentheses match in the path of a picture below the folder is the
            group of the picture. Groups are not parted by the splits that are made, and must not be by those that are
            given. A labels file may have a column ``group`` instead.
        fold: ``2/5`` for the second of five parts of the pictures as the test split, as cross-validation needs it.

    Raises:
        DataError: the data set is missing, empty or damaged, or its layout is unknown; there is no labels file for
            ``columns``; a picture has no group, a group is in two splits, or a class has too few groups; or ``fold`` is
            no fold, or splits are given besides.
        InputError: a folder cannot be listed, or a labels file is damaged.
    """
    layout = find_layout(data, data_dir, classes, columns)
    splits = layout.tree.splits
    if group is not None:
        splits = grouped_by_path(splits, None if layout.folder is None else os.fspath(layout.folder), group)
    if fold is None:
        return _completed(layout, splits, seed)
    part = fold_of(fold)
    if part is None:
        raise DataError(f"fold must be such as 2/5, not {fold!r}")
    return _completed(layout, with_fold(layout.where, splits, layout.tree.classes, part, seed), seed)


def spellings(source: Source) -> Iterator[Source]:
    """Yield a data set with its names as they are on the disk and, if they have accents, in both Unicode forms.

    A copy made by another system may spell them in another form than the training saw.
    """
    yield source
    names = (name for split in source.splits.values() for name in split.pictures if isinstance(name, str))
    if source.location is not None and not all(name[len(source.location) :].isascii() for name in names):
        yield replace(source, name_form="NFC")
        yield replace(source, name_form="NFD")


def _completed(layout: Layout, given: Mapping[str, Records], seed: int) -> Source:
    """Set the missing splits aside, and check what every data set must have."""
    where, classes, notes = layout.where, layout.tree.classes, list(layout.tree.notes)
    if len(classes) < 2:
        hint = "" if layout.folder is None or layout.labels_file else labels_file_hint(layout.folder)
        raise DataError(f"{where} has one class only, {classes[0]!r}: at least two are needed{hint}")
    missing = [split for split in ("test", "val") if split not in given]
    check_groups(where, given, classes, 1 + len(missing))
    _check_sizes(where, given["train"], classes, missing)
    splits, remarks = _set_aside(given, missing, seed)
    valid = _valid_names(classes, where)
    renamed = [
        f"class {before!r} is called {after!r}, which is a valid folder name on every system"
        for before, after in zip(classes, valid, strict=True)
        if composed(before) != after
    ]
    for split, records in splits.items():
        if not len(records.labels):
            raise DataError(f"{where}: the {split} split has no pictures")
    absent = [layout.tree.missing] if layout.tree.missing else []
    return Source(
        name=layout.name,
        location=None if layout.folder is None else os.fspath(layout.folder),
        classes=valid,
        splits={split: splits[split] for split in ("train", "val", "test")},
        notes=(*(f"left out: {line}" for line in absent), *notes, *renamed, *remarks),
        missing=layout.tree.missing,
        labels_file=None if layout.labels_file is None else os.fspath(layout.labels_file),
    )


def _check_sizes(where: str, train: Records, classes: Sequence[str], missing: Sequence[str]) -> None:
    sizes = np.bincount(train.labels, minlength=len(classes))
    rarest = int(sizes.argmin())
    if sizes[rarest] <= len(missing):
        purpose = ", one for each split" if missing else ""
        raise DataError(
            f"{where}: class {classes[rarest]!r} has {quantity(int(sizes[rarest]), 'training picture')}: "
            f"at least {1 + len(missing)} are needed{purpose}"
        )


def _set_aside(given: Mapping[str, Records], missing: Sequence[str], seed: int) -> tuple[dict[str, Records], list[str]]:
    """The splits, complete, and a remark on each that was made of training pictures."""
    train = given["train"]
    if not missing:
        return {**given}, []
    tenth = max(1, len(train.labels) // 10)
    counts = [min(tenth, MAX_VALIDATION) if split == "val" else tenth for split in missing]
    if train.groups is None:
        left, *parts = set_aside(train.labels, counts, seed)
    else:
        left, *parts = set_aside_groups(train.labels, numbered(train.groups), counts, seed)
    made = {split: selected(train, part) for split, part in zip(missing, parts, strict=True)}
    remarks = [
        f"no {split} split: {len(records.labels):,} of {len(train.labels):,} training pictures "
        f"{_groups_text(records, train)}were set aside (seed {seed})"
        for split, records in made.items()
    ]
    return {**given, **made, "train": selected(train, left)}, remarks


def _groups_text(records: Records, train: Records) -> str:
    if records.groups is None or train.groups is None:
        return ""
    return f"({len(set(records.groups)):,} of {len(set(train.groups)):,} groups) "


def _valid_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    valid = tuple(folder_name(name) for name in names)
    seen: dict[str, str] = {}
    for name, original in zip(valid, names, strict=True):
        other = seen.get(name.casefold())
        if other is not None:
            raise DataError(
                f"{where}: the classes {other!r} and {original!r} would share a folder on some systems: rename one"
            )
        seen[name.casefold()] = original
    return valid
