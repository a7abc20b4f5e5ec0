"""Labels files: a table, as CSV or JSON lines, whose rows name a picture and its class.

The format is that of ``metadata.csv`` and ``metadata.jsonl`` in the image folders of Hugging Face, and of
``train.csv`` in the data sets of Kaggle.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, NamedTuple, NoReturn

from cnn_infer.console import quantity
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.system.encoding import encoding_of

COLUMNS = ("file_name", "label")
"""The columns of the picture and of its class, unless others are named."""

SPLIT, GROUP = "split", "group"
"""The columns that a file may have besides."""

DELIMITERS = ",;\t|"
"""The delimiters of CSV files: the one that separates the wanted columns in the first line."""

EXTENSIONS = frozenset([".csv", ".tsv", ".jsonl", ".ndjson"])

LONGEST = 1 << 20
"""Longest line, in characters. A longer one is not part of a table."""

_MOST_NAMED = 8  # columns in a message


class LabelRow(NamedTuple):
    """A row of a labels file.

    Attributes:
        line: The number of its last line in the file, from 1.
        name: The path of the picture below the folder of the file, with slashes, without ``.`` and ``..``.
        label: The class; empty if the row has none.
        split: The text in the column :data:`SPLIT`; None if the file has no such column.
        group: The text in the column :data:`GROUP`; None if the file has no such column.
    """

    line: int
    name: str
    label: str
    split: str | None
    group: str | None


def is_labels_file(path: str | os.PathLike[str]) -> bool:
    """Whether the path has the name of a labels file and is not a folder."""
    return os.path.splitext(path)[1].lower() in EXTENSIONS and not os.path.isdir(path)


def read_rows(path: str | os.PathLike[str], columns: Sequence[str] = COLUMNS) -> Iterator[LabelRow]:
    """Yield the rows of a labels file, one at a time.

    The file is UTF-8, or UTF-16 with a byte order mark. JSON lines are recognised by the extension; everything else is
    CSV with the names of the columns in the first line, quoted as in RFC 4180, with one of :data:`DELIMITERS`.
    Spaces around a value do not count. A backslash in a path is a slash.

    Args:
        path: The file.
        columns: The names of the two columns (keys in JSON lines) of the picture and of its class.

    Raises:
        InputError: the file cannot be read or decoded, lacks a column, has a damaged row, or names a picture by an
            absolute path or by one that leaves the folder of the file.
    """
    shown = printable(path)
    try:
        with open(path, encoding=encoding_of(path), newline="") as stream:
            lines = _lines(stream, shown)
            is_json = os.path.splitext(path)[1].lower() in (".jsonl", ".ndjson")
            tables = _json_tables(lines, columns, shown) if is_json else _csv_tables(lines, columns, shown)
            for line, values in tables:
                yield LabelRow(
                    line,
                    _inside(values[columns[0]], f"{shown} line {line}"),
                    values[columns[1]].strip(),
                    values[SPLIT].strip() if SPLIT in values else None,
                    values[GROUP].strip() if GROUP in values else None,
                )
    except UnicodeError as error:
        raise InputError(f"{shown} is not UTF-8 text: save it as UTF-8 ({error})") from error
    except OSError as error:
        raise InputError(f"cannot read {shown}: {error.strerror}") from error


def _lines(stream: IO[str], shown: str) -> Iterator[str]:
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise InputError(f"{shown} line {number} has more than {LONGEST:,} characters: not a labels file")
        yield line


def _csv_tables(lines: Iterator[str], columns: Sequence[str], shown: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    header = next(lines, "")
    named = {delimiter: _header(header, delimiter) for delimiter in DELIMITERS}
    delimiter = next((each for each, names in named.items() if set(columns) <= set(names)), None)
    if delimiter is None:
        _refuse_columns(max(named.values(), key=len), columns, shown)
    names = named[delimiter]
    wanted = [name for name in dict.fromkeys([*columns, SPLIT, GROUP]) if name in names]
    twice = next((name for name in wanted if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{shown} has two columns {twice!r}: rename one")
    places = {name: names.index(name) for name in wanted}
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for values in reader:
            line = reader.line_num + 1
            if len(values) == len(names):
                yield line, {name: values[place] for name, place in places.items()}
            elif values:
                raise InputError(
                    f"{shown} line {line} has {quantity(len(values), 'value')}, but the first line names "
                    f"{len(names)} columns: quote a value that contains the delimiter"
                )
    except csv.Error as error:
        raise InputError(f"{shown} line {reader.line_num + 1} is not CSV: {error}") from error


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def _json_tables(lines: Iterator[str], columns: Sequence[str], shown: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    known: list[str] = []
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{shown} line {line} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise InputError(f"{shown} line {line} is not a JSON object: each line must be one, with a key per column")
        if not known:
            known = [name for name in dict.fromkeys([*columns, SPLIT, GROUP]) if name in document]
            if not set(columns) <= set(known):
                _refuse_columns([*document], columns, shown)
        where = f"{shown} line {line}"
        yield line, {name: _text(document.get(name), name, where, is_path=name == columns[0]) for name in known}


def _text(value: object, name: str, where: str, *, is_path: bool) -> str:
    """A JSON value as text: null is empty, and numbers are written as they are. A path may have undecoded bytes."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InputError(f"{where}: {name} must be a text or a whole number, not {json.dumps(value)[:40]}")
    text = str(value)
    try:
        text.encode(errors="surrogateescape" if is_path else "strict")
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InputError(f"{where}: {name} is not Unicode: {json.dumps(value)[:40]}") from error
    return text


def _refuse_columns(names: Sequence[str], columns: Sequence[str], shown: str) -> NoReturn:
    missing = " and no ".join(repr(name) for name in columns if name not in names)
    if not names:
        raise InputError(f"{shown} is empty: its first line must name the columns, such as {','.join(COLUMNS)}")
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    raise InputError(
        f"{shown} has no column {missing}; it has {', '.join(map(repr, names[:_MOST_NAMED]))}{more}: "
        "name the columns of the picture and of its class with --columns FILE LABEL"
    )


def _inside(name: str, where: str) -> str:
    """The path of a picture below the folder of the labels file, with slashes."""
    path = name.strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or re.match("[A-Za-z]:", path):
        raise InputError(f"{where}: {name.strip()!r} is an absolute path: write it from the folder of the labels file")
    if ".." in parts:
        raise InputError(
            f"{where}: {name.strip()!r} leaves the folder of the labels file: move the file or the pictures"
        )
    if not parts or "\0" in path:
        raise InputError(f"{where} names no file")
    return "/".join(parts)
