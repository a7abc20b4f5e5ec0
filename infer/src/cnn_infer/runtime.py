"""Import ONNX Runtime on first use, with its telemetry switched off."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from cnn_infer.errors import DeviceError

INSTALL = "pip install 'cnn-infer[cpu]'  (or 'cnn-infer[gpu]' for CUDA)"

BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-webgpu",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
    "onnxruntime-cann",
    "onnxruntime-training",
    "onnxruntime-windowsml",
    "onnxruntime-trt-rtx",
    "onnxruntime-silicon",
)
"""The builds of ONNX Runtime. All write the folder ``onnxruntime``, so two of them overwrite each other."""

TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime 1.32 sends usage data and stores a machine identifier, unless this variable is 1 while it loads."""


def load_runtime() -> ModuleType:
    """Return the module ``onnxruntime``.

    Its telemetry is off, unless the user has set ``ORT_DISABLE_TELEMETRY=0``. The call does not change ``os.environ``.

    Raises:
        DeviceError: ONNX Runtime is not installed, fails to import, or two builds of it are installed.
    """
    for builds in conflicts():
        raise DeviceError(
            f"{' and '.join(builds)} are {'both' if len(builds) == 2 else 'all'} installed and overwrite each other: "
            f"pip uninstall -y {' '.join(builds)}, then {INSTALL}"
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


def conflicts() -> Iterator[list[str]]:
    """Yield the builds of ONNX Runtime that are installed in one folder, for each folder that has several."""
    # importlib.metadata finds them too, but takes longer to import than a small model takes for a hundred pictures
    for folder in dict.fromkeys(sys.path):
        found = {
            path.name.split("-")[0].replace("_", "-").lower() for path in Path(folder).glob("onnxruntime*.dist-info")
        }
        builds = [build for build in BUILDS if build in found]
        if len(builds) > 1:
            yield builds
