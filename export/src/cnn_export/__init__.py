"""Export a trained network to one ONNX file, fp32 and int8, and prove that it computes what was trained."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as typing has it, which takes longer to load than all that stands here
if TYPE_CHECKING:
    from typing import Any

    from cnn_export.errors import ExportError, GraphError, ParityError
    from cnn_export.explain import Stage
    from cnn_export.exporting import Export, export
    from cnn_export.int8 import Int8
    from cnn_export.parity import Parity
    from cnn_export.search import Candidate
    from cnn_export.verdict import Difference, Latency, Verdict

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "Difference",
    "Export",
    "ExportError",
    "GraphError",
    "Int8",
    "Latency",
    "Parity",
    "ParityError",
    "Stage",
    "Verdict",
    "export",
]

# Names are loaded when they are first used: torch takes seconds, and --help or a mistyped option needs none of it.
_MODULES = {
    "ExportError": "errors",
    "GraphError": "errors",
    "ParityError": "errors",
    "Export": "exporting",
    "Int8": "int8",
    "Candidate": "search",
    "Stage": "explain",
    "export": "exporting",
    "Parity": "parity",
    "Difference": "verdict",
    "Latency": "verdict",
    "Verdict": "verdict",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
