"""The export that a folder already has: what a new one with other options would leave out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnn_infer.guarantee import percent
from cnn_infer.run_files import EXPORT_REPORT, INT8_MODEL

from cnn_export.options import OPTIONS, Settings


def left_out(folder: Path, settings: Settings) -> list[str]:
    """Return a sentence for each optional part of a folder's earlier export that the settings do not ask for.

    Args:
        folder: The folder of the export. Without a readable ``export.json`` there is nothing to keep.
        settings: The options of the new export.
    """
    try:
        report = json.loads((folder / EXPORT_REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    promise, rule = (_entry(report, part) for part in ("guarantee", "strangers"))
    earlier = {
        "max_error": ("a certified threshold", promise.get("max_error")),
        "evidence": ("the output evidence", True if _entry(report, "evidence") else None),
        "strangers": ("the output strangeness", rule.get("rate")),
        "half": ("an fp16 model", True if _had_half(report) else None),
        "quantize": ("an int8 model", True if _had_int8(report) else None),
    }
    sentences = []
    for name, (part, value) in earlier.items():
        if value is not None and not getattr(settings, name):
            flag = OPTIONS[name].flag
            option = f"{flag}={percent(value)}" if type(value) is float else flag
            sentences.append(f"the earlier export had {part}: add {option} to keep it")
    return sentences


def _had_half(report: Any) -> bool:
    half = report.get("half") if isinstance(report, dict) else None
    return isinstance(half, dict) and not half.get("failed")


def _had_int8(report: Any) -> bool:
    """Whether there was an int8 model that was not rejected."""
    int8 = report.get("int8") if isinstance(report, dict) else None
    return isinstance(int8, dict) and int8.get("file") == INT8_MODEL


def _entry(report: Any, part: str) -> Mapping[str, Any]:
    """The entry of the fp32 file for a part of ``export.json``; empty if there is none."""
    found = report.get(part) if isinstance(report, dict) else None
    entry = found.get("fp32") if isinstance(found, dict) else None
    return entry if isinstance(entry, dict) else {}
