"""Classify pictures with models that cnn-export wrote. Needs ONNX Runtime, NumPy, Pillow and simplejpeg."""

from __future__ import annotations

from cnn_infer.lazy import lazily

TYPE_CHECKING = False  # importing typing takes longer than importing this module
if TYPE_CHECKING:
    from cnn_infer import latency as latency
    from cnn_infer.classifier import Classifier as Classifier
    from cnn_infer.drift import Drift as Drift
    from cnn_infer.errors import (
        CheckError as CheckError,
        DeviceError as DeviceError,
        EdgeCNNError as EdgeCNNError,
        InferError as InferError,
        InputError as InputError,
        ModelError as ModelError,
        PictureError as PictureError,
    )
    from cnn_infer.evaluation import Report as Report, Row as Row, evaluate as evaluate
    from cnn_infer.explanation import (
        ClassEvidence as ClassEvidence,
        Explanation as Explanation,
        ReceptiveField as ReceptiveField,
    )
    from cnn_infer.guarantee import Guarantee as Guarantee
    from cnn_infer.model import Model as Model, newest_export as newest_export, open_model as open_model
    from cnn_infer.paths.find import find_pictures as find_pictures
    from cnn_infer.paths.truth import Truth as Truth
    from cnn_infer.pixels.convert import Header as Header, read_header as read_header, to_pixels as to_pixels
    from cnn_infer.prediction import STRANGER as STRANGER, UNKNOWN as UNKNOWN, Prediction as Prediction
    from cnn_infer.proof import judge as judge
    from cnn_infer.proof.golden import Replay as Replay, verify as verify
    from cnn_infer.proof.verification import (
        Deviation as Deviation,
        StageResult as StageResult,
        Verification as Verification,
        verify_all as verify_all,
    )
    from cnn_infer.spec import Spec as Spec
    from cnn_infer.strangers import StrangerRule as StrangerRule
    from cnn_infer.system.machine import usable_cpus as usable_cpus

__version__ = "0.1.0"

_PUBLIC = {
    "STRANGER": "prediction",
    "UNKNOWN": "prediction",
    "CheckError": "errors",
    "ClassEvidence": "explanation",
    "Classifier": "classifier",
    "Deviation": "proof.verification",
    "DeviceError": "errors",
    "Drift": "drift",
    "EdgeCNNError": "errors",
    "Explanation": "explanation",
    "Guarantee": "guarantee",
    "Header": "pixels.convert",
    "InferError": "errors",
    "InputError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "PictureError": "errors",
    "Prediction": "prediction",
    "ReceptiveField": "explanation",
    "Replay": "proof.golden",
    "Report": "evaluation",
    "Row": "evaluation",
    "Spec": "spec",
    "Truth": "paths.truth",
    "StageResult": "proof.verification",
    "StrangerRule": "strangers",
    "Verification": "proof.verification",
    "evaluate": "evaluation",
    "find_pictures": "paths.find",
    "judge": "proof.judge",
    "latency": "latency",
    "newest_export": "model",
    "open_model": "model",
    "read_header": "pixels.convert",
    "to_pixels": "pixels.convert",
    "usable_cpus": "system.machine",
    "verify": "proof.golden",
    "verify_all": "proof.verification",
}
"""For each public name, the module of this package that defines it."""

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazily(__name__, _PUBLIC)
