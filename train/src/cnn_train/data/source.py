"""From the name or folder of a data set to three splits of labelled pictures, not decoded yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from cnn_infer.paths.labels_file import COLUMNS, is_labels_file
from cnn_infer.paths.naming import composed, folder_name, printable

from cnn_train.data.idx import find_idx, load_idx
from cnn_train.data.label_table import read_labels
from cnn_train.data.named_sets import CIFAR10_CLASSES, NAMED, find_named, is_cifar10, known_classes, read_cifar10
from cnn_train.data.split import set_aside
from cnn_train.data.tree import Records, labels_file_hint, pictures, read_tree
from cnn_train.errors import DataError
from cnn_train.text_file import read_text_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

    Raises:
        DataError: the data set is missing, empty or damaged, or its layout is unknown; or there is no labels file for
            ``columns``.
        InputError: a folder cannot be listed, or a labels file is damaged.
    """
    if columns is not None and not is_labels_file(data):
        raise DataError(
            f"no effect without a labels file (CSV or JSON lines) as the data set: --columns ({printable(data)})"
        )
    if data == "digits":
        return _digits(seed)
    if data in NAMED:
        folder = find_named(data, data_dir)
        return _open_folder(folder, data, seed, (f"{data} was found in {printable(folder)}",), classes)
    if is_labels_file(data) and os.path.isfile(data):
        return _open_labels(Path(os.path.abspath(data)), seed, columns or COLUMNS, classes)
    if not os.path.isdir(data):
        named = ", ".join(("digits", *NAMED))
        problem = "not a folder" if os.path.lexists(data) else "no such folder"
        raise DataError(f"{problem}: {printable(data)} (give a folder of pictures, a labels file, or one of {named})")
    folder = Path(os.path.abspath(data))
    return _open_folder(folder, folder_name(folder.name or "data"), seed, (), classes)


def _open_labels(path: Path, seed: int, columns: Sequence[str], order: Sequence[str]) -> Source:
    tree = read_labels(path, columns, order)
    name, notes = folder_name(path.parent.name or "data"), tuple(tree.notes)
    if tree.missing:
        notes = (f"left out: {tree.missing}", *notes)
    found = _completed(name, path.parent, tree.classes, tree.splits, seed, notes)
    return replace(found, labels_file=os.fspath(path), missing=tree.missing)


def _open_folder(folder: Path, name: str, seed: int, notes: tuple[str, ...], order: Sequence[str]) -> Source:
    if is_cifar10(folder):
        splits = {split: _records(*pair) for split, pair in read_cifar10(folder).items()}
        return _completed(name, folder, CIFAR10_CLASSES, splits, seed, notes)
    files = find_idx(folder)
    if files is not None:
        loaded = load_idx(files)
        splits = {"train": _records(*loaded.train)}
        if loaded.test is not None:
            splits["test"] = _records(*loaded.test)
        highest = int(max(records.labels.max(initial=0) for records in splits.values()))
        names = _written_names(files["train-labels"].parent / "classes.txt", highest)
        names = names or known_classes(loaded.train[1]) or tuple(str(label) for label in range(highest + 1))
        return _completed(name, folder, names, splits, seed, notes)
    tree = read_tree(folder, order)
    return _completed(name, folder, tree.classes, tree.splits, seed, (*notes, *tree.notes))


def _records(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Records:
    return Records(images, labels.astype(np.int64))


def _written_names(path: Path, highest: int) -> tuple[str, ...] | None:
    """The names in ``classes.txt``, or None if there is no such file."""
    try:
        names = tuple(read_text_file(path).split("\n"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise DataError(f"cannot read {printable(path)}: {error}") from error
    while names and not names[-1].strip():
        names = names[:-1]
    if len(names) <= highest or not all(name.strip() for name in names):
        raise DataError(f"{printable(path)} must have one name per line, for the labels 0 to {highest}")
    return tuple(name.strip() for name in names)


def _digits(seed: int) -> Source:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = (loaded.images.astype(np.uint16) * 255 + 8) // 16  # from 0..16 to 0..255, rounded
    train = Records(pixels.astype(np.uint8)[..., np.newaxis], loaded.target.astype(np.int64))
    return _completed("digits", None, tuple(str(digit) for digit in range(10)), {"train": train}, seed, ())


def _completed(
    name: str,
    folder: Path | None,
    classes: Sequence[str],
    splits: Mapping[str, Records],
    seed: int,
    notes: tuple[str, ...],
) -> Source:
    """Set the missing splits aside, and check what every data set must have."""
    where = "digits" if folder is None else printable(folder)
    if len(classes) < 2:
        hint = "" if folder is None else labels_file_hint(folder)
        raise DataError(f"{where} has one class only, {classes[0]!r}: at least two are needed{hint}")
    train = splits["train"]
    missing = [split for split in ("test", "val") if split not in splits]
    sizes = np.bincount(train.labels, minlength=len(classes))
    rarest = int(sizes.argmin())
    if sizes[rarest] <= len(missing):
        purpose = ", one for each split" if missing else ""
        raise DataError(
            f"{where}: class {classes[rarest]!r} has {pictures(int(sizes[rarest]), 'training ')}: "
            f"at least {1 + len(missing)} are needed{purpose}"
        )
    tenth = max(1, len(train.labels) // 10)
    counts = {"test": tenth, "val": min(tenth, MAX_VALIDATION)}
    left, *parts = set_aside(train.labels, [counts[split] for split in missing], seed)
    complete = {split: _selected(train, part) for split, part in zip(missing, parts, strict=True)}
    complete = {**splits, **complete, "train": _selected(train, left) if missing else train}
    remarks = tuple(
        f"no {split} split: {len(part):,} of {len(train.labels):,} training pictures were set aside (seed {seed})"
        for split, part in zip(missing, parts, strict=True)
    )
    valid = _valid_names(classes, where)
    renamed = tuple(
        f"class {before!r} is called {after!r}, which is a valid folder name on every system"
        for before, after in zip(classes, valid, strict=True)
        if composed(before) != after
    )
    for split, records in complete.items():
        if not len(records.labels):
            raise DataError(f"{where}: the {split} split has no pictures")
    return Source(
        name=name,
        location=None if folder is None else os.fspath(folder),
        classes=valid,
        splits={split: complete[split] for split in ("train", "val", "test")},
        notes=(*notes, *renamed, *remarks),
    )


def _selected(records: Records, positions: NDArray[np.int64]) -> Records:
    found = records.pictures
    chosen = found[positions] if isinstance(found, np.ndarray) else found.selected(positions)
    return Records(chosen, records.labels[positions], None if records.groups is None else records.groups[positions])


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
