"""Rows of a folder run as text: a table for people, JSON lines and CSV for machines."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from functools import cache

from cnn_infer.console import shown
from cnn_infer.evaluation import Row

FIELDS = ("path", "label", "index", "probability", "top", "error")
"""The fields of a row, in this order, in every machine format."""

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for every row
_quoted = cache(_as_json)
_DIGITS = 6  # of a probability: what differs below that differs between machines


def formatter(name: str, classes: Sequence[str]) -> tuple[str, Callable[[Row], str]]:
    """The header text and the function from a row to its text, both with their line ends.

    Args:
        name: ``table``, ``jsonl`` or ``csv``.
        classes: The model's classes; they set the width of the table's first column.
    """
    if name == "jsonl":
        return "", lambda row: _as_json(_fields(row)) + "\n"
    if name == "csv":
        return _csv_line(FIELDS), _csv_row
    width = min(32, max(len("unknown"), *(len(label) for label in classes)))
    return f"{'label':<{width}}  probability  path\n", lambda row: _table_line(row, width)


def _fields(row: Row) -> dict[str, object]:
    found = row.prediction
    if found is None:
        values: tuple[object, ...] = (row.path, None, None, None, None, row.error)
    else:
        top = [{"label": label, "probability": round(value, _DIGITS)} for label, value in found.top]
        values = (row.path, found.label, found.index, round(found.probability, _DIGITS), top, None)
    return dict(zip(FIELDS, values, strict=True))


def _csv_row(row: Row) -> str:
    found = row.prediction
    if found is None:
        return _csv_line((row.path, None, None, None, None, row.error))
    # CSV has no lists: ``top`` is JSON. Written here, since it is most of a row and json takes twice as long
    top = [f'{{"label": {_quoted(label)}, "probability": {round(value, _DIGITS)}}}' for label, value in found.top]
    return _csv_line(
        (row.path, found.label, found.index, round(found.probability, _DIGITS), f"[{', '.join(top)}]", None)
    )


class _Said:
    """A stream for ``csv.writer`` whose ``writerow`` gives the line back."""

    def write(self, text: str) -> str:
        return text


_CSV = csv.writer(_Said(), lineterminator="\r\n")  # so that it quotes both, also within names


def _csv_line(values: Sequence[object]) -> str:
    line: str = _CSV.writerow(values)
    return line[:-2] + "\n"


def _table_line(row: Row, width: int) -> str:
    path = shown(row.path)
    if row.prediction is None:
        return f"{'error':<{width}}  {'':>11}  {path}: {shown(row.error or '')}\n"
    return f"{shown(row.prediction.label):<{width}}  {row.prediction.probability:>10.1%}   {path}\n"
