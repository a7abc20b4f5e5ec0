"""The JSON reports in a run folder: ``export.json``, and ``export.failed.json`` after a failed check."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnn_infer.run_files import FAILED_REPORT
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text

from cnn_export.errors import ParityError


def json_text(document: Any) -> str:
    """Return a document as JSON. NaN and infinite numbers, which JSON does not have, become texts."""
    return json.dumps(_finite(document), ensure_ascii=False, allow_nan=False, indent=2)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parity_failure(folder: Path, reason: str, evidence: Mapping[str, Any]) -> ParityError:
    """Write ``export.failed.json`` and return the error to raise.

    Args:
        folder: The folder of the export.
        reason: What differs, for the user.
        evidence: The measured values, for ``export.failed.json``.
    """
    path = folder / FAILED_REPORT
    document = {"reason": reason, "parity": dict(evidence), "machine": machine.description()}
    write_text(path, json_text(document) + "\n")
    return ParityError(f"parity failed: {reason}; nothing was exported, the evidence is in {path}")
