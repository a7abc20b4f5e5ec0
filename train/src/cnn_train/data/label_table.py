"""Pictures whose classes are in a labels file (CSV or JSON lines) beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cnn_infer.console import quantity
from cnn_infer.paths.labels_file import COLUMNS, LabelRow, read_rows
from cnn_infer.paths.naming import composed, folder_name, printable
from cnn_infer.paths.skipped import is_system_name
from cnn_infer.pixels.convert import EXTENSIONS

from cnn_train.data.lazy_names import packed
from cnn_train.data.tree import SPLIT_NAMES, SPLIT_OF, Records, Tree
from cnn_train.errors import DataError


def read_labels(path: Path, columns: Sequence[str] = COLUMNS, order: Sequence[str] = ()) -> Tree:
    """Find the pictures that a labels file names, sorted by class and path as those of class folders are.

    These are left out and counted: rows without a label, rows without a picture file, and pictures without a row in the
    folders of the others. A repeated row counts once. A picture with two labels, splits or groups is an error. A name
    without the extension of a picture stands for the one picture file that it begins.

    Args:
        path: The labels file; see :func:`cnn_infer.paths.labels_file.read_rows`.
        columns: The columns of the picture and of its class.
        order: The order of the classes, if they have exactly these names. Otherwise whole numbers are sorted by
            value, other names as text.

    Raises:
        DataError: no row names a picture and its class, two rows contradict each other, a name without extension
            stands for two pictures, a split is unknown, or it has a class that ``train`` lacks.
        InputError: the file cannot be read or is damaged.
    """
    table = _Table(path)
    for row in read_rows(path, columns):
        table.add(row)
    entries = table.entries()
    classes = _ordered({entry.label for entry in entries.values()}, order)
    index = {name: at for at, name in enumerate(classes)}
    names = sorted(entries, key=lambda name: (index[entries[name].label], _place(name)))
    records = {}
    for split in SPLIT_NAMES:
        chosen = [name for name in names if entries[name].split == split]
        if chosen:
            labels = np.array([index[entries[name].label] for name in chosen], np.int64)
            groups = np.array([entries[name].group for name in chosen], object) if table.has_groups else None
            found = packed(path.parent, (os.path.join(path.parent, name) for name in chosen))
            records[split] = Records(found, labels, groups)
    _check_splits(printable(path), classes, records)
    return Tree(classes, records, table.notes(), table.missing())


def _ordered(names: set[str], order: Sequence[str]) -> list[str]:
    places = {folder_name(name): place for place, name in enumerate(order)}
    if {folder_name(name) for name in names} == set(places):
        return sorted(names, key=lambda name: places[folder_name(name)])
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _place(name: str) -> bytes:
    """The key by which a search of folders sorts paths: a folder comes before a file whose name starts like it."""
    return os.fsencode(name.replace("/", "\0"))


def _check_splits(shown: str, classes: Sequence[str], records: Mapping[str, Records]) -> None:
    if "train" not in records:
        raise DataError(
            f"{shown} has the split {' and '.join(records)} but no train: give the training pictures rows too"
        )
    trained = set(records["train"].labels.tolist())
    for split, found in records.items():
        unknown = sorted(set(found.labels.tolist()) - trained)
        if unknown:
            raise DataError(f"{shown}: the split {split} has the class {classes[unknown[0]]!r}, which train lacks")


class _Entry(NamedTuple):
    """What the rows say about a picture."""

    label: str
    split: str
    group: str | None
    line: int


class _Table:
    """The rows of a labels file, compared with the files beside it while they are read."""

    def __init__(self, path: Path) -> None:
        self.has_groups = False
        self._shown = printable(path)
        self._folders = _Folders(path.parent)
        self._entries: dict[str, _Entry] = {}
        self._named: set[str] = set()
        self._rows = self._unlabelled = self._missing = self._repeated = self._completed = self._double = 0
        self._examples: dict[str, str] = {}

    def add(self, row: LabelRow) -> None:
        """Add a row. Raises :class:`DataError`, as :func:`read_labels`."""
        self._rows += 1
        where = f"{printable(row.name)}, line {row.line}"
        found = self._folders.find(row.name, f"{self._shown} line {row.line}")
        if found is not None:
            self._named.add(found)
        if not row.label:
            self._unlabelled += 1
            self._examples.setdefault("unlabelled", where)
        elif found is None:
            self._missing += 1
            self._examples.setdefault("missing", where)
        else:
            self._add_entry(row, found, where)

    def _add_entry(self, row: LabelRow, found: str, where: str) -> None:
        entry = _Entry(composed(row.label), self._split_of(row), row.group, row.line)
        known = self._entries.setdefault(found, entry)
        if known is entry:
            if os.path.basename(found) != row.name.rpartition("/")[2] and not _is_picture(row.name):
                self._completed += 1
                self._examples.setdefault("completed", f"{printable(row.name)} to {printable(found)}")
            self.has_groups |= row.group is not None
            if row.group == "":
                raise DataError(f"{self._shown} line {row.line} has no group: fill the column group in every row")
        elif known.label != entry.label:
            self._double += 1
            labels = f"{known.label!r} in line {known.line} and {entry.label!r} in line {entry.line}"
            self._examples.setdefault("double", f"{printable(found)} is {labels}")
        elif known[:3] != entry[:3]:
            what = "splits" if known.split != entry.split else "groups"
            raise DataError(
                f"{self._shown}: {printable(found)} is in two {what}, in line {known.line} and line {entry.line}: "
                "remove one of the rows"
            )
        else:
            self._repeated += 1
            self._examples.setdefault("repeated", where)

    def _split_of(self, row: LabelRow) -> str:
        if row.split is None:
            return "train"
        split = SPLIT_OF.get(row.split.lower())
        if split is None:
            names = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
            raise DataError(f"{self._shown} line {row.line} has the split {row.split!r}: it must be one of {names}")
        return split

    def entries(self) -> Mapping[str, _Entry]:
        """What is known of each picture, by its path below the folder."""
        if not self._rows:
            raise DataError(f"{self._shown} has no rows: it needs one for each picture")
        if self._double:
            raise DataError(
                f"{self._shown} gives {quantity(self._double, 'picture')} a second label ({self._examples['double']}): "
                "leave one row per picture"
            )
        if not self._entries and self._missing:
            raise DataError(
                f"no row of {self._shown} names a picture file ({self._examples['missing']}): "
                "paths must start in the folder of the labels file"
            )
        if not self._entries:
            raise DataError(f"no row of {self._shown} has a label ({self._examples['unlabelled']})")
        return self._entries

    def notes(self) -> list[str]:
        """What was left out or completed, one line each."""
        unnamed, example = self._folders.without(self._named)
        counted = [
            (self._unlabelled, "left out: {} without a label", "row", self._examples.get("unlabelled")),
            (unnamed, "left out: {} without a row", "picture", example),
            (self._repeated, "counted once: {}", "repeated row", self._examples.get("repeated")),
            (self._completed, "completed: {} without an extension", "name", self._examples.get("completed")),
        ]
        found = [f"{text.format(quantity(count, noun))} ({example})" for count, text, noun, example in counted if count]
        return [f"{line} in {self._shown}" for line in found]

    def missing(self) -> str:
        """One line on the rows whose picture does not exist; empty if there are none."""
        if not self._missing:
            return ""
        return f"{quantity(self._missing, 'row')} of {self._shown} without a picture file ({self._examples['missing']})"


class _Folders:
    """The pictures in the folders that rows name. Each folder is listed once, when the first row names it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {}
        self._searched: set[str] = set()

    def find(self, name: str, where: str) -> str | None:
        """Return the path of a picture as it is on the disk, below the root with slashes, or None.

        Args:
            name: Its path in the labels file. Unicode may write accents in another form than the disk does.
            where: The row, for the message.

        Raises:
            DataError: the name has no extension, and two pictures begin with it.
        """
        folder = ""
        *above, last = name.split("/")
        for part in above:
            inside = self._names(folder)[0].get(composed(part))
            if inside is None:
                return None
            folder += f"{inside}/"
        names, stems = self._names(folder)
        found = names.get(composed(last))
        if found is None or not _is_picture(found):
            begun = [] if _is_picture(last) else stems.get(composed(last), [])
            if len(begun) > 1:
                raise DataError(
                    f"{where}: {printable(last)} is {' or '.join(map(printable, begun))}: write its extension"
                )
            found = begun[0] if begun else None
        if found is not None:
            self._searched.add(folder)
        return None if found is None else folder + found

    def without(self, named: set[str]) -> tuple[int, str]:
        """Return the number of pictures without a row in the folders of the others, and the path of the first."""
        left = [
            folder + name
            for folder in self._searched
            for name in self._names(folder)[0].values()
            if _is_picture(name) and folder + name not in named
        ]
        return len(left), printable(min(left, default=""))

    def _names(self, folder: str) -> tuple[dict[str, str], dict[str, list[str]]]:
        """The names in a folder as they are on the disk: by name, and those of pictures by name without extension."""
        if folder not in self._listed:
            listing = _listing(os.path.join(self._root, folder))
            names = {composed(name): name for name in listing}
            if len(names) < len(listing):
                raise DataError(
                    f"{printable(os.path.join(self._root, folder))} has two names that differ only in how Unicode "
                    "writes the accents: remove one"
                )
            stems: dict[str, list[str]] = {}
            for key, name in sorted(names.items()):
                if _is_picture(name):
                    stems.setdefault(os.path.splitext(key)[0], []).append(name)
            self._listed[folder] = names, stems
        return self._listed[folder]


def _listing(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not is_system_name(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot list the folder {printable(folder)}: {error.strerror}") from error


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS
