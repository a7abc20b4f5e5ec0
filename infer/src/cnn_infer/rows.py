"""Rows as text: a table for people, JSON lines and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from math import isfinite
from typing import Any

from cnn_infer.console import escaped
from cnn_infer.evaluation import Row
from cnn_infer.optional_outputs import STRANGENESS
from cnn_infer.prediction import STRANGER, Prediction

FIELDS = ("path", "label", "index", "probability", "top", "error")
"""The fields of a row in JSON lines and CSV, in this order; the field ``strangeness`` follows if it is asked for."""

_as_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would create an encoder per row
_as_cached_json = cache(_as_json)
_DIGITS = 6  # of a probability; later digits differ between machines
_STRANGENESS_DIGITS = 4


def formatter(
    form: str, classes: Sequence[str], *, on_terminal: bool = False, strangers: bool = False
) -> tuple[str, Callable[[Row], str]]:
    """Return the header and the function that turns a row into text, both with their line ends.

    Args:
        form: ``table``, ``jsonl`` or ``csv``.
        classes: The model's classes; they set the width of the table's first column.
        on_terminal: Write each row as one line without control characters, also in ``jsonl`` and ``csv``. A table
            is always written so.
        strangers: Whether rows of ``jsonl`` and ``csv`` have the field ``strangeness``.
    """
    if form == "table":
        width = min(32, max(len("stranger" if strangers else "unknown"), *(len(label) for label in classes)))
        return f"{'label':<{width}}  probability  path\n", lambda row: _table_line(row, width, strangers=strangers)
    if form == "jsonl":
        header, text = "", partial(_json_line, strangers=strangers)
    else:
        header = _csv_line((*FIELDS, STRANGENESS) if strangers else FIELDS)
        text = partial(_csv_row, strangers=strangers)
    return header, (lambda row: escaped(text(row)[:-1]) + "\n") if on_terminal else text


def fields(row: Row, *, strangers: bool) -> dict[str, Any]:
    """Return a row as plain JSON, with the names and values of JSON lines.

    Args:
        row: The row.
        strangers: Whether the field ``strangeness`` is added.
    """
    found = row.prediction
    if found is None:
        values: tuple[Any, ...] = (row.path, None, None, None, None, row.error)
    else:
        top = [{"label": label, "probability": _rounded(value, _DIGITS)} for label, value in found.top]
        values = (row.path, found.label, found.index, _rounded(found.probability, _DIGITS), top, None)
    named = dict(zip(FIELDS, values, strict=True))
    if strangers:
        named[STRANGENESS] = _strangeness(found)
    return named


def _json_line(row: Row, *, strangers: bool) -> str:
    return _as_json(fields(row, strangers=strangers)) + "\n"


def _csv_row(row: Row, *, strangers: bool) -> str:
    found = row.prediction
    last = (_strangeness(found),) if strangers else ()
    if found is None:
        return _csv_line((row.path, None, None, None, None, row.error, *last))
    # CSV has no lists, so top is JSON. It is most of the row, and the json module would take twice as long
    top = [
        f'{{"label": {_as_cached_json(label)}, "probability": {round(value, _DIGITS) if isfinite(value) else "null"}}}'
        for label, value in found.top
    ]
    return _csv_line(
        (row.path, found.label, found.index, _rounded(found.probability, _DIGITS), f"[{', '.join(top)}]", None, *last)
    )


def _strangeness(found: Prediction | None) -> float | None:
    value = None if found is None else found.strangeness
    return None if value is None else _rounded(value, _STRANGENESS_DIGITS)


def _rounded(value: float, digits: int) -> float | None:
    """None if the value is infinite or not a number, which JSON cannot hold."""
    return round(value, digits) if isfinite(value) else None


class _ReturnLine:
    """A stream for ``csv.writer``: ``writerow`` returns what ``write`` returns, the line."""

    def write(self, text: str) -> str:
        return text


_CSV = csv.writer(_ReturnLine(), lineterminator="\r\n")  # with both characters, names that contain one are quoted


def _csv_line(values: Sequence[object]) -> str:
    line: str = _CSV.writerow(values)
    return line[:-2] + "\n"


def _table_line(row: Row, width: int, *, strangers: bool) -> str:
    path = escaped(row.path)
    if row.prediction is None:
        return f"{'error':<{width}}  {'':>11}  {path}: {escaped(row.error or '')}\n"
    # the probability is that of the class that a stranger does not get
    hidden = strangers and row.prediction.label == STRANGER
    probability = "" if hidden else f"{row.prediction.probability:.1%}"
    return f"{escaped(row.prediction.label):<{width}}  {probability:>10}   {path}\n"
