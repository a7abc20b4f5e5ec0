"""Export a trained network to one ONNX file, fp32 and int8, and prove that it computes what was trained."""

from cnn_export.errors import ExportError, GraphError, ParityError
from cnn_export.exporting import Export, Int8, export
from cnn_export.parity import Parity
from cnn_export.verdict import Difference, Latency, Verdict

__version__ = "0.1.0"

__all__ = [
    "Difference",
    "Export",
    "ExportError",
    "GraphError",
    "Int8",
    "Latency",
    "Parity",
    "ParityError",
    "Verdict",
    "export",
]
