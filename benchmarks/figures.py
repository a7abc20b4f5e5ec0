"""What the modules with tables of figures share: the result files, the names of data sets, and Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NAMES = {"fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10, JPEG files"}


def result(name: str) -> dict[str, Any]:
    """The result file of the machine that all tables are about."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}_epyc_zen5.json").read_text(encoding="utf-8"))
    return document


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))
