"""Export a trained network to ONNX files, fp32 and int8, and check that they compute what was trained."""

from __future__ import annotations

from cnn_infer.lazy import lazily

TYPE_CHECKING = False  # typing takes longer to load than this whole module
if TYPE_CHECKING:
    from cnn_export.confidence import Confidence as Confidence
    from cnn_export.errors import (
        ExportError as ExportError,
        GraphError as GraphError,
        GuaranteeError as GuaranteeError,
        ParityError as ParityError,
    )
    from cnn_export.explain import Stage as Stage
    from cnn_export.export_result import Export as Export
    from cnn_export.exporting import export as export
    from cnn_export.int8.candidates import Candidate as Candidate
    from cnn_export.int8.report import Int8 as Int8
    from cnn_export.int8.verdict import Difference as Difference, Timing as Timing, Verdict as Verdict
    from cnn_export.options import ExportOptions as ExportOptions, RunOptions as RunOptions
    from cnn_export.own_network import export_network as export_network
    from cnn_export.parity import Parity as Parity
    from cnn_export.selective import guarantee as guarantee
    from cnn_export.summary import export_lines as export_lines
    from cnn_export.vectors.write import Vectors as Vectors, write_vectors as write_vectors

__version__ = "0.1.0"

_PUBLIC = {
    "Candidate": "int8.candidates",
    "Confidence": "confidence",
    "Difference": "int8.verdict",
    "Export": "export_result",
    "ExportError": "errors",
    "ExportOptions": "options",
    "GraphError": "errors",
    "GuaranteeError": "errors",
    "Int8": "int8.report",
    "Parity": "parity",
    "ParityError": "errors",
    "RunOptions": "options",
    "Stage": "explain",
    "Timing": "int8.verdict",
    "Vectors": "vectors.write",
    "Verdict": "int8.verdict",
    "export": "exporting",
    "export_lines": "summary",
    "export_network": "own_network",
    "guarantee": "selective",
    "write_vectors": "vectors.write",
}
"""Each public name and the module below this package that defines it."""

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazily(__name__, _PUBLIC)
