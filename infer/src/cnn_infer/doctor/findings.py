"""One thing that the doctor looked at, and the report of all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from cnn_infer import console

FORMAT = 1
"""Version of the JSON report. Keys are only added; a change of meaning raises it."""

NOTHING = "nothing to do"
"""The advice where all is well."""

Status = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is: the same word in every report.
        status: ``ok``; ``note`` for what works and could be better, or is not needed by all; ``error`` for what stops
            cnn-infer or makes its results unreliable.
        found: What is there, one line.
        advice: What to do, one line.
    """

    name: str
    status: Status
    found: str
    advice: str = NOTHING


def usable(findings: Sequence[Finding]) -> bool:
    """Whether there is no error."""
    return all(finding.status != "error" for finding in findings)


def to_json(findings: Sequence[Finding]) -> str:
    """Return the report as one JSON document: ``format``, ``usable`` and the ``findings``."""
    document = {"format": FORMAT, "usable": usable(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(document, ensure_ascii=False)


def for_people(findings: Sequence[Finding]) -> str:
    """Return a line for each finding, and below it the advice, unless there is nothing to do."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<5}  {finding.name:<{width}}  {finding.found}")
        if finding.advice != NOTHING:
            lines.append(f"{'':<{width + 9}}-> {finding.advice}")
    bad = sum(finding.status == "error" for finding in findings)
    return "\n".join([*lines, console.quantity(bad, "error") if bad else "usable"])
