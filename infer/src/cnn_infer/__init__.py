"""Run models that cnn-export wrote: pictures in, classes out. Needs ONNX Runtime, NumPy and Pillow alone."""

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
