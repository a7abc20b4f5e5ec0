"""The results of a check as files and as text: findings.csv, check.json, and the table of counts."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_infer.console import escaped
from cnn_infer.system.atomic import write_text

from cnn_train.checking.finding import KINDS, Finding

FINDINGS, SUMMARY, SHEET = "findings.csv", "check.json", "sheet.png"
"""The files of a check in its folder."""

CHECK_FILES = (FINDINGS, SUMMARY, SHEET)

COLUMNS = ("path", "finding", "partner", "detail", "advice")
"""The columns of :data:`FINDINGS`."""


def rows(findings: Sequence[Finding]) -> Iterator[dict[str, str]]:
    """Yield each finding as a row with :data:`COLUMNS`."""
    for found in findings:
        yield dict(zip(COLUMNS, (found.path, found.kind, found.partner, found.detail, found.advice), strict=True))


def as_csv(findings: Sequence[Finding]) -> str:
    """Return the findings as CSV with a header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(findings))
    return stream.getvalue()


def as_text(findings: Sequence[Finding], report: Mapping[str, Any], form: str) -> str:
    """Return the result as ``table`` (counts and advice), ``jsonl`` or ``csv`` (one row per finding)."""
    if form == "csv":
        return as_csv(findings).rstrip("\n")
    if form == "jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows(findings))
    kinds = report["kinds"]
    if not kinds:
        return "nothing was found"
    table = [("finding", "number", "level", "what to do")]
    table += [
        (kind, f"{entry['count']:,}", "problem" if entry["problem"] else "note", entry["advice"])
        for kind, entry in kinds.items()
    ]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    return "\n".join(
        "  ".join((row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].ljust(widths[2]), row[3])) for row in table
    )


def counted(findings: Mapping[str, Sequence[Finding]]) -> dict[str, dict[str, Any]]:
    """Return count, level, title and advice of each kind that was found."""
    return {kind: {"count": len(found), **KINDS[kind]._asdict()} for kind, found in findings.items() if found}


def write_files(folder: Path, findings: Sequence[Finding], report: Mapping[str, Any]) -> None:
    """Write :data:`FINDINGS` and :data:`SUMMARY`."""
    write_text(folder / FINDINGS, as_csv(findings))
    write_text(folder / SUMMARY, json.dumps(report, ensure_ascii=False, indent=2) + "\n")


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """Return lines for people on what was checked and how near duplicates were counted."""
    splits = ", ".join(f"{name} {count:,}" for name, count in report["pictures"].items())
    near = report["near_duplicates"]
    lines = [f"checked: {escaped(report['data'])}, {report['classes']} classes: {splits}"]
    if near["look_alikes"]:
        lines.append(
            f"the pictures are small or look alike ({near['share_with_close_hash']:.0%} have a close hash): near "
            f"duplicates have a similarity of {near['least_similarity']} or more"
        )
    return lines
