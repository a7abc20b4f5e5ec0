"""A comparison of networks as a table for people, and as rows for programs."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from cnn_infer import console

from cnn_train.comparison import ComparedModel, Comparison, Pair


def table(found: Comparison) -> list[str]:
    """Return the comparison as tables for people."""
    width = max(len("network"), *(len(entry.name) for entry in found.models))
    networks = [
        f"{f'{index + 1}  {entry.name}':<{width + 3}}  {entry.kind:<7}  {entry.accuracy:>8.2%}  "
        f"{entry.accuracy_interval[0]:>6.1%} to {entry.accuracy_interval[1]:<6.1%}  {entry.macro_f1:>8.4f}  "
        f"{entry.ece:>6.4f}  {entry.brier:>6.4f}  {entry.bytes / 1024:>8,.0f}"
        for index, entry in enumerate(found.models)
    ]
    pairs = [
        f"{f'{pair.second + 1} against {pair.first + 1}':<13}  {100 * pair.difference:>+9.2f}  "
        f"{100 * pair.difference_interval[0]:>+6.2f} to {100 * pair.difference_interval[1]:<+6.2f}  "
        f"{pair.only_second:>9,}  {pair.only_first:>10,}  {pair.mcnemar_p:>9.2g}"
        for pair in found.pairs
    ]
    return [
        f"{console.quantity(found.images, 'test picture')} of {found.data}, "
        f"{found.differing:,} classified differently (test split {found.test_fingerprint[:12]})",
        f"{'   network':<{width + 3}}  {'kind':<7}  accuracy  {'95% interval':<16}  macro F1     ECE   Brier       KiB",
        *networks,
        f"{'paired':<13}  {'points':>9}  {'95% interval':<16}  only left  only right  McNemar p",
        *pairs,
    ]


FIELDS = ("name", "kind", "images", "correct", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "brier",
    "bytes", "only_first", "only_this", "mcnemar_p", "difference", "difference_low", "difference_high")  # fmt: skip
"""The fields of a row in JSON lines and CSV. The last six compare with the first network; its own are empty."""


def rows(found: Comparison) -> list[dict[str, Any]]:
    """Return a row with the :data:`FIELDS` for each network."""
    against = {pair.second: pair for pair in found.pairs if pair.first == 0}
    return [_row(found, entry, against.get(index)) for index, entry in enumerate(found.models)]


def _row(found: Comparison, entry: ComparedModel, pair: Pair | None) -> dict[str, Any]:
    measured = (entry.correct, entry.accuracy, *entry.accuracy_interval, entry.macro_f1, entry.ece, entry.brier)
    compared: tuple[object, ...] = (None,) * 6
    if pair is not None:
        compared = (pair.only_first, pair.only_second, pair.mcnemar_p, pair.difference, *pair.difference_interval)
    return dict(zip(FIELDS, (entry.name, entry.kind, found.images, *measured, entry.bytes, *compared), strict=True))


def text(found: Comparison, form: str) -> str:
    """Return a comparison as ``table``, ``jsonl`` or ``csv``, without the last line end."""
    if form == "table":
        return "\n".join(console.escaped(line) for line in table(found))
    if form == "jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows(found))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(found))
    return stream.getvalue().rstrip("\n")
