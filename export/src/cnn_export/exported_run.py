"""The folder of a run that was exported before."""

from __future__ import annotations

import os
from pathlib import Path

from cnn_infer.paths.find import folders_holding
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import FP32_MODEL, REPORT, RUNS

from cnn_export.errors import ExportError


def exported_folder(run: str | os.PathLike[str] | None) -> Path:
    """Return a folder with an exported fp32 model.

    Args:
        run: The folder; None for the newest run under ``runs/``.

    Raises:
        ExportError: there is no run, or it is not exported yet.
    """
    if run is None:
        runs = folders_holding(REPORT, RUNS)
        if not runs:
            raise ExportError(f"no finished run under {RUNS}/: run cnn-train first, or name a run folder")
        run = runs[-1]
    folder = Path(run)
    if not (folder / FP32_MODEL).exists():
        raise ExportError(f"{printable(folder)} has no {FP32_MODEL}: export it first, or name another run")
    return folder
