"""Exports of a run for several targets, each in a copy of its folder, and their int8 files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cnn_infer.run_files import CHECKPOINT, EXPORT_FILES, EXPORT_REPORT, INT8_MODEL, REJECTED_MODEL
from cnn_train import RunError
from processes import run as run_command


def exported(run: Path, target: str, copies: Path | None = None, seconds: float | None = None) -> Path:
    """Export a run with int8, and return the folder of the export. An export that is already there is kept.

    Args:
        run: The folder of a trained run.
        target: The option --for of the export.
        copies: Where the run is copied to, to a folder that has the target in its name; None: it is not copied.
        seconds: The option --search-seconds; None: the default of cnn-export.
    """
    folder = run if copies is None else copies / f"{run.resolve().name}-{target}"
    if not (folder / EXPORT_REPORT).exists():
        if copies is not None:
            shutil.rmtree(folder, ignore_errors=True)  # an interrupted copy lacks files
            shutil.copytree(run, folder, ignore=shutil.ignore_patterns(*EXPORT_FILES, CHECKPOINT))
        limit = [] if seconds is None else ["--search-seconds", str(seconds)]
        run_command([sys.executable, "-m", "cnn_export", str(folder), "--quantize", "--for", target, *limit])
    return folder


def int8_file(run: Path) -> Path:
    """The int8 file of an exported run, shipped or not.

    Raises:
        RunError: there is none.
    """
    for path in (run / INT8_MODEL, run / REJECTED_MODEL):
        if path.exists():
            return path
    raise RunError(f"{run} has no int8 model: cnn-export {run} --quantize")
