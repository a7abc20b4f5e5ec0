"""Folders of pictures: one subfolder per class, or ``train``, ``val`` and ``test`` with a subfolder per class each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.archives.access import folders_in, is_archive, names_in
from cnn_infer.console import quantity
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.labels_file import is_labels_file
from cnn_infer.paths.naming import composed, folder_name, printable
from cnn_infer.paths.skipped import Skipped, is_system_name, skipped_text
from cnn_infer.pixels.convert import EXTENSIONS

from cnn_train.data.lazy_names import Names, packed
from cnn_train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""The names of a split's folder, in lower case. Upper case matches too."""

SPLIT_OF: Mapping[str, str] = {name: split for split, names in SPLIT_NAMES.items() for name in names}
"""The split of each name in :data:`SPLIT_NAMES`."""


@dataclass(frozen=True)
class Records:
    """One split, not decoded yet.

    Attributes:
        pictures: Paths of n files, or pixels: uint8 (n, h, w, 1) grey or (n, h, w, 3) RGB.
        labels: int64 (n,), class indices.
        groups: Text (n,), dtype object: pictures with the same group must stay in one split. None if there are none.
    """

    pictures: Names | NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.object_] | None = None


def selected(records: Records, positions: NDArray[np.int64]) -> Records:
    """Return the pictures at positions, int64 (k,), in that order."""
    found = records.pictures
    chosen = found[positions] if isinstance(found, np.ndarray) else found.selected(positions)
    return Records(chosen, records.labels[positions], None if records.groups is None else records.groups[positions])


@dataclass(frozen=True)
class Tree:
    """A folder of pictures, with the classes of its subfolders or of a labels file.

    Attributes:
        classes: The names of the classes, in Unicode's composed form.
        splits: ``train``, and ``val`` and ``test`` if they are given.
        notes: What was left out, one line each.
        missing: One line on the pictures that a labels file names and that do not exist; empty if there are none.
    """

    classes: Sequence[str]
    splits: Mapping[str, Records]
    notes: Sequence[str]
    missing: str = ""


def read_tree(folder: Path, order: Sequence[str] = ()) -> Tree:
    """Find the pictures of a folder. Hidden folders and those of the system are neither classes nor searched.

    A folder ``train`` is a split if it has subfolders, or if there are only splits beside it. Otherwise it is a class.

    Args:
        folder: The folder.
        order: The order of the classes, if they have exactly these names; else they are sorted as on the disk.

    Raises:
        DataError: there are no class folders, a class has no training picture, a split has a class that ``train``
            lacks, two folders have the same name or are the same split, or class folders contain the splits.
        InputError: a folder cannot be listed.
    """
    inside = _folders(folder)
    splits = {name: split for name in inside if (split := SPLIT_OF.get(name.lower()))}
    trains = [name for name, split in splits.items() if split == "train"]
    if inside and len(splits) == len(inside) and not trains:
        raise DataError(f"{printable(folder)} has {' and '.join(splits)} but no train folder")
    if not trains or (len(splits) < len(inside) and not any(_folders(inside[name]) for name in trains)):
        _check_no_hidden_splits(folder, inside)
        return _read_splits({"train": folder}, [], order)
    paths: dict[str, Path] = {}
    for name, split in splits.items():
        if split in paths:
            raise DataError(f"{paths[split]} and {printable(inside[name])} are both the {split} split: rename one")
        paths[split] = Path(inside[name])
    others = [path for name, path in inside.items() if name not in splits]
    return _read_splits(paths, [f"left out: {printable(path)} is not train, val or test" for path in others], order)


def _read_splits(paths: Mapping[str, Path], notes: list[str], order: Sequence[str]) -> Tree:
    """Read the class folders of each split. The classes are those of ``train``."""
    train = paths["train"]
    classes = list(_class_folders(train))
    if not classes:
        problem = "has pictures but no class folders" if _count_pictures_in(train) else "is empty"
        advice = f"put the pictures into one folder per class{labels_file_hint(train)}"
        raise DataError(f"{printable(train)} {problem}: {advice}")
    places = {folder_name(name): place for place, name in enumerate(order)}
    if {folder_name(name) for name in classes} == set(places):
        classes.sort(key=lambda name: places[folder_name(name)])
    records = {}
    for split, path in paths.items():
        folders = _class_folders(path)
        unknown = sorted(set(folders) - set(classes))
        if unknown:
            raise DataError(f"{printable(path)} has the class {unknown[0]!r}, which {printable(train)} lacks")
        skipped = Skipped()
        found = [folders.get(name) for name in classes]
        records[split] = _class_pictures(path, found, skipped, empty_is_fine=split != "train")
        if strays := _count_pictures_in(path):
            notes.append(f"left out: {quantity(strays, 'picture')} in {printable(path)} outside of any class folder")
        if text := skipped_text(skipped.counts):
            notes.append(f"left out: {text} in the class folders of {printable(path)}")
    return Tree(classes, records, notes)


def _class_folders(folder: Path) -> dict[str, str]:
    """The paths of the class folders by their names in Unicode's composed form, in the order on the disk."""
    folders = _folders(folder)
    _check_not_upside_down(folder, folders)
    found: dict[str, str] = {}
    for name, path in folders.items():
        if composed(name) in found:
            raise DataError(
                f"{printable(folder)} has two folders {composed(name)!r}, which differ only in how Unicode writes the "
                "accents: merge them"
            )
        found[composed(name)] = path
    return found


def _folders(folder: str | os.PathLike[str]) -> dict[str, str]:
    """The paths of the subfolders by name, sorted. Links to folders count."""
    if is_archive(os.fspath(folder)):
        names = folders_in(os.fspath(folder))
        return {name: os.path.join(folder, name) for name in sorted(names) if not is_system_name(name)}
    try:
        with os.scandir(folder) as listing:
            found = {entry.name: entry.path for entry in listing if entry.is_dir() and not is_system_name(entry.name)}
    except OSError as error:
        raise DataError(f"cannot list the folder {printable(folder)}: {error.strerror}") from error
    return dict(sorted(found.items()))


def _check_no_hidden_splits(folder: Path, inside: Mapping[str, str]) -> None:
    """Refuse ``training_set`` and ``test_set``, which would become two classes."""
    alike: dict[str, str] = {}
    for name, path in inside.items():
        words = [SPLIT_OF.get(word) for word in re.split(r"[^a-z]+", name.lower())]
        split = next((split for split in words if split), None)
        if split and _folders(path):
            alike.setdefault(split, name)
    if "train" in alike and len(alike) > 1:
        names = " and ".join(alike.values())
        raise DataError(
            f"{printable(folder)} has the folders {names}, which look like splits and would become classes: "
            f"rename them to {' and '.join(alike)}"
        )


def _check_not_upside_down(folder: Path, classes: Mapping[str, str]) -> None:
    """Refuse class folders that contain the splits: their test pictures would be trained on."""
    for name, path in classes.items():
        found = {split: inner for inner in _folders(path) if (split := SPLIT_OF.get(inner.lower()))}
        if "train" in found and len(found) > 1:
            advice = (
                f"give {printable(path)} as the data set"
                if len(classes) == 1
                else f"move the pictures to {printable(Path(folder, 'train', name))} and so on"
            )
            names = " and ".join(found[split] for split in SPLIT_NAMES if split in found)
            raise DataError(
                f"{printable(path)} contains {names}, but class folders must be inside of the splits: {advice}"
            )


def _class_pictures(folder: Path, classes: Sequence[str | None], skipped: Skipped, *, empty_is_fine: bool) -> Records:
    """Find the pictures of one split.

    Args:
        folder: The folder that contains all class folders.
        classes: The folder of each class; None if there is none.
        skipped: Counts what is left out.
        empty_is_fine: Whether a class may have no picture.
    """
    counts: list[int] = []

    def walk() -> Iterator[str]:
        for inside in classes:
            count, left_out = 0, Skipped()
            for path in find_pictures([inside], skipped=left_out) if inside is not None else ():
                count += 1
                yield path
            if not count and not empty_is_fine:
                text = skipped_text(left_out.counts)
                problem = f"has no pictures{f' ({text} left out)' if text else ''}"
                raise DataError(f"the class folder {printable(inside or folder)} {problem}: add some or remove it")
            counts.append(count)
            skipped.counts.update(left_out.counts)

    found = packed(folder, walk())
    return Records(found, np.repeat(np.arange(len(classes)), counts))


def _count_pictures_in(folder: Path) -> int:
    names = (name for name in _names(folder) if not is_system_name(name))
    return sum(1 for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS)


def _names(folder: Path) -> list[str]:
    return names_in(os.fspath(folder)) if is_archive(os.fspath(folder)) else os.listdir(folder)


def data_folder(archive: Path) -> Path:
    """Return the folder in an archive that contains the classes: below folders that are alone, as people pack them."""
    while len(inside := _folders(archive)) == 1 and not _count_pictures_in(archive):
        archive = Path(*inside.values())
    return archive


def labels_file_hint(folder: Path) -> str:
    """Return the end of an error message that points to a labels file in a folder; empty if there is none."""
    found = [name for name in sorted(os.listdir(folder)) if is_labels_file(folder / name)] if folder.is_dir() else []
    return f", or give the labels file as the data set: {printable(folder / found[0])}" if found else ""
