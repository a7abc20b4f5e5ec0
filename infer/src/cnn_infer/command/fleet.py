"""``cnn-infer --fleet``: a table of the certificates of several machines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from cnn_infer import console
from cnn_infer.command.printing import print_text
from cnn_infer.console import escaped
from cnn_infer.errors import CheckError
from cnn_infer.proof.fleet import Box, fleet


def as_text(boxes: Sequence[Box], form: str) -> str:
    """Return the table of the machines as ``table``, ``jsonl`` or ``csv``, without the last line break."""
    if form == "jsonl":
        return "\n".join(json.dumps(asdict(box), ensure_ascii=False) for box in boxes)
    if form == "csv":
        stream = io.StringIO()
        writer = csv.DictWriter(stream, [field.name for field in fields(Box)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(box) for box in boxes)
        return stream.getvalue().rstrip("\n")
    rows: list[tuple[str, ...]] = [("certificate", "result", "model", "SHA-256", "verified", "p50 ms", "machine")]
    for box in boxes:
        name, digest, median = box.certificate, box.sha256[:12], f"{box.p50_ms:.3f}"
        rows.append((name, box.result, box.model, digest, box.created, median, box.machine))
    rows = [tuple(map(escaped, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def sum_up(paths: Sequence[str], model: str | None, form: str) -> None:
    """Print the table of certificates to standard output.

    Args:
        paths: Certificates, folders and patterns.
        model: The model that all must prove; None for the one that most of them prove.
        form: ``table``, ``jsonl`` or ``csv``.

    Raises:
        InputError: a path does not exist, or a file is no certificate.
        CheckError: a machine differs, or proves another model.
    """
    boxes = fleet(paths, model)
    print_text(as_text(boxes, form))
    others = [box for box in boxes if not box.agrees]
    if others:
        first = others[0]
        raise CheckError(
            f"{len(others)} of {len(boxes)} certificates do not agree; the first is {first.certificate}: {first.result}"
        )
    count = "1 certificate agrees" if len(boxes) == 1 else f"{len(boxes):,} certificates agree"
    console.message(f"{count} with the export of {boxes[0].model}, SHA-256 {boxes[0].sha256[:12]}")
