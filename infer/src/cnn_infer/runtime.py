"""Import ONNX Runtime on first use, with its telemetry switched off."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

from cnn_infer.errors import DeviceError

INSTALL = "pip install 'cnn-infer[cpu]'  (or 'cnn-infer[gpu]' for CUDA)"

TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime 1.32 sends usage data and stores a machine identifier, unless this variable is 1 while it loads."""


def load_runtime() -> ModuleType:
    """Return the module ``onnxruntime``.

    Its telemetry is off, unless the user has set ``ORT_DISABLE_TELEMETRY=0``. The call does not change ``os.environ``.

    Raises:
        DeviceError: ONNX Runtime is not installed, fails to import, or two builds of it are installed.
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime_gpu"):
        raise DeviceError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            f"pip uninstall -y onnxruntime onnxruntime-gpu, then {INSTALL}"
        )
    switched_off = TELEMETRY not in os.environ and "onnxruntime" not in sys.modules
    if switched_off:
        os.environ[TELEMETRY] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error  # Ctrl-C during the import surfaces as "initialization failed"
        raise DeviceError(f"ONNX Runtime is not installed or does not load ({error}): {INSTALL}") from error
    finally:
        if switched_off:
            os.environ.pop(TELEMETRY, None)
    return onnxruntime  # type: ignore[no-any-return]  # it has no type hints


def _is_installed(distribution: str) -> bool:
    # importlib.metadata finds it too, but takes longer to import than a small model takes for a hundred pictures
    return any(next(Path(folder).glob(f"{distribution}-*.dist-info"), None) for folder in sys.path)
