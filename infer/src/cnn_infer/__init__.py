"""Run models that cnn-export wrote: pictures in, classes out. Needs ONNX Runtime, NumPy, Pillow and simplejpeg."""

from __future__ import annotations

import os
from importlib import import_module

# ONNX Runtime 1.32 reports to its maker unless told otherwise, and keeps an identifier of the machine for that. It must
# be told before it is loaded; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # as typing has it, which takes longer to load than all that stands here
if TYPE_CHECKING:
    from typing import Any

    from cnn_infer.classifier import UNKNOWN, Classifier, Prediction
    from cnn_infer.errors import (
        CheckError,
        DeviceError,
        EdgeCNNError,
        InferError,
        InputError,
        ModelError,
        PictureError,
    )
    from cnn_infer.evaluation import Report, Row, evaluate
    from cnn_infer.files import find_pictures
    from cnn_infer.golden import Replay, verify
    from cnn_infer.model import Model, newest_export, open_model
    from cnn_infer.pixels import Header, read_header, to_pixels
    from cnn_infer.spec import Spec

__version__ = "0.1.0"

__all__ = [
    "UNKNOWN",
    "CheckError",
    "Classifier",
    "DeviceError",
    "EdgeCNNError",
    "Header",
    "InferError",
    "InputError",
    "Model",
    "ModelError",
    "PictureError",
    "Prediction",
    "Replay",
    "Report",
    "Row",
    "Spec",
    "evaluate",
    "find_pictures",
    "newest_export",
    "open_model",
    "read_header",
    "to_pixels",
    "verify",
]

# Names are loaded when they are first used: a command must be there for Ctrl-C before it loads NumPy and Pillow.
_MODULES = {
    "UNKNOWN": "classifier",
    "Classifier": "classifier",
    "Prediction": "classifier",
    "CheckError": "errors",
    "DeviceError": "errors",
    "EdgeCNNError": "errors",
    "InferError": "errors",
    "InputError": "errors",
    "ModelError": "errors",
    "PictureError": "errors",
    "Report": "evaluation",
    "Row": "evaluation",
    "evaluate": "evaluation",
    "find_pictures": "files",
    "Replay": "golden",
    "verify": "golden",
    "Model": "model",
    "newest_export": "model",
    "open_model": "model",
    "Header": "pixels",
    "read_header": "pixels",
    "to_pixels": "pixels",
    "Spec": "spec",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
