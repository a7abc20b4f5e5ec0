"""The parts of a page that come from a confusion matrix: classes, the matrix, the most confused pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_infer.metrics import wilson_interval

MOST_MATRIX = 20
"""With more classes the page shows only the most confused pairs."""

MOST_PAIRS = 30
MOST_CLASSES = 200
"""With more classes the page shows those with the lowest F1."""


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class: shares from 0 to 1, the 95% interval of the recall, and the number of its pictures."""

    name: str
    precision: float
    recall: float
    low: float
    high: float
    f1: float
    support: int
    unknown: int


@dataclass(frozen=True)
class Cell:
    """A cell of the confusion matrix: pictures, the strength of its colour from 0 to 1, and whether they are right."""

    count: int
    heat: float
    right: bool


@dataclass(frozen=True)
class Pair:
    """Pictures of class ``truth`` that were answered as ``found``: their number, and their share of that class."""

    truth: str
    found: str
    count: int
    share: float


def class_rows(per_class: Mapping[str, Mapping[str, Any]]) -> list[ClassRow]:
    """Return the classes that have pictures, those with the lowest F1 first, up to :data:`MOST_CLASSES`.

    Args:
        per_class: The entry of the report, in the model's order.
    """
    rows = []
    for name, row in per_class.items():
        support = int(row["support"])
        if support:
            low, high = wilson_interval(round(row["recall"] * support), support)
            rows.append(
                ClassRow(name, row["precision"], row["recall"], low, high, row["f1"], support, row.get("unknown", 0))
            )
    return sorted(rows, key=lambda row: row.f1)[:MOST_CLASSES]


def matrix(confusion: Sequence[Sequence[int]], unknown: Sequence[int]) -> list[list[Cell]]:
    """Return the cells of the confusion matrix; empty with more than :data:`MOST_MATRIX` classes.

    Args:
        confusion: Pictures by true class (row) and predicted class (column).
        unknown: Pictures of each class without an answer. If there are any, they are the last column.
    """
    if len(confusion) > MOST_MATRIX:
        return []
    rows = []
    for truth, (row, without) in enumerate(zip(confusion, unknown, strict=True)):
        total = max(1, sum(row) + without)
        # the root shows a few percent too, and the least colour is that of no picture
        cells = [Cell(number, math.sqrt(number / total), truth == found) for found, number in enumerate(row)]
        rows.append([*cells, Cell(without, math.sqrt(without / total), right=False)] if any(unknown) else cells)
    return rows


def confused_pairs(confusion: Sequence[Sequence[int]], unknown: Sequence[int], classes: Sequence[str]) -> list[Pair]:
    """Return the pairs of classes that are confused most often, up to :data:`MOST_PAIRS`."""
    pairs = [
        Pair(classes[truth], classes[found], number, number / (sum(row) + unknown[truth]))
        for truth, row in enumerate(confusion)
        for found, number in enumerate(row)
        if number and truth != found
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:MOST_PAIRS]
