"""The layouts of data sets: what a name, a folder or a labels file contains, before missing splits are set aside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.archives.access import is_archive
from cnn_infer.paths.labels_file import COLUMNS, is_labels_file
from cnn_infer.paths.naming import folder_name, printable

from cnn_train.data.idx import find_idx, load_idx
from cnn_train.data.label_table import read_labels
from cnn_train.data.named_sets import CIFAR10_CLASSES, NAMED, find_named, is_cifar10, known_classes, read_cifar10
from cnn_train.data.tree import Records, Tree, data_folder, read_tree
from cnn_train.errors import DataError
from cnn_train.text_file import read_text_file

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """A data set as it was found.

    Attributes:
        name: Its name, valid as part of a file name.
        folder: The absolute path of its folder; None if it is a part of a library.
        tree: Its classes and the splits that are given: at least ``train``.
        labels_file: The file in ``folder`` that names the pictures and classes; None without one.
    """

    name: str
    folder: Path | None
    tree: Tree
    labels_file: Path | None = None

    @property
    def where(self) -> str:
        """The data set, for messages."""
        return self.name if self.folder is None else printable(self.labels_file or self.folder)


def find_layout(
    data: str, data_dir: str | os.PathLike[str] | None, order: Sequence[str], columns: Sequence[str] | None
) -> Layout:
    """Find a data set. The arguments and errors are those of :func:`cnn_train.data.source.open_source`.

    Args:
        data: A name, a folder or a labels file.
        data_dir: The folder to search for named data sets first.
        order: The order of the classes, if they have exactly these names.
        columns: The columns of a labels file; None for the default, and without such a file.
    """
    if columns is not None and not is_labels_file(data):
        raise DataError(
            f"no effect without a labels file (CSV or JSON lines) as the data set: --columns ({printable(data)})"
        )
    if data == "digits":
        return _digits()
    if data in NAMED:
        folder = find_named(data, data_dir)
        return Layout(data, folder, _read(folder, order, [f"{data} was found in {printable(folder)}"]))
    path = Path(os.path.abspath(data))
    if is_labels_file(data) and path.is_file():
        return Layout(_name(path.parent), path.parent, read_labels(path, columns or COLUMNS, order), path)
    if is_archive(data):
        folder = data_folder(path)
        tree = read_tree(folder, order)
        inside = [] if folder == path else [f"the classes are in {printable(folder)}"]
        return Layout(_name(path), folder, Tree(tree.classes, tree.splits, [*inside, *tree.notes]))
    if not path.is_dir():
        named = ", ".join(("digits", *NAMED))
        problem = "not a folder" if os.path.lexists(data) else "no such folder"
        raise DataError(
            f"{problem}: {printable(data)} (give a folder or archive of pictures, a labels file, or one of {named})"
        )
    return Layout(_name(path), path, _read(path, order, []))


def _name(folder: Path) -> str:
    return folder_name(folder.name or "data")


def _read(folder: Path, order: Sequence[str], notes: list[str]) -> Tree:
    if is_cifar10(folder):
        splits = {split: _records(*pair) for split, pair in read_cifar10(folder).items()}
        return Tree(CIFAR10_CLASSES, splits, notes)
    files = find_idx(folder)
    if files is None:
        tree = read_tree(folder, order)
        return Tree(tree.classes, tree.splits, [*notes, *tree.notes])
    loaded = load_idx(files)
    splits = {"train": _records(*loaded.train)}
    if loaded.test is not None:
        splits["test"] = _records(*loaded.test)
    highest = int(max(records.labels.max(initial=0) for records in splits.values()))
    names = _written_names(files["train-labels"].parent / "classes.txt", highest)
    names = names or known_classes(loaded.train[1]) or tuple(str(label) for label in range(highest + 1))
    return Tree(names, splits, notes)


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


def _digits() -> Layout:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = (loaded.images.astype(np.uint16) * 255 + 8) // 16  # from 0..16 to 0..255, rounded
    train = Records(pixels.astype(np.uint8)[..., np.newaxis], loaded.target.astype(np.int64))
    return Layout("digits", None, Tree([str(digit) for digit in range(10)], {"train": train}, []))
