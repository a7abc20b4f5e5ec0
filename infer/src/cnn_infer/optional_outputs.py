"""Optional outputs of a model file: which ones it has, and the file without those that are not asked for.

ONNX Runtime computes all outputs of a graph in each run, also those that the caller does not ask for. Its option
``only_execute_path_to_fetches`` changes this in builds for training only. So the nodes of an output that is not asked
for are taken out of the file before ONNX Runtime gets it, and a picture takes the same time as without that output.

The nodes, constants and tensors that belong to an optional output ``NAME`` are named ``NAME/...``. No other node reads
them. The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from cnn_infer.details import under
from cnn_infer.protobuf import fields, varint
from cnn_infer.spec import Spec

EVIDENCE: Final = "evidence"
"""Name of an optional output: float32, (batch, classes, rows, columns), the part of each cell of the last feature map
in each logit."""

STRANGENESS: Final = "strangeness"
"""Name of an optional output: float32, (batch,), how far a picture is from the training pictures."""

OPTIONAL_OUTPUTS: Final = {EVIDENCE: "--evidence", STRANGENESS: "--strangers"}
"""The optional outputs, in their order in a file, after ``logits`` and ``probabilities``; and the option of cnn-export
that adds each."""

_GRAPH: Final = 7
_NODE: Final = 1
_CONSTANT: Final = 5
_OUTPUT: Final = 12
_NAME_FIELD: Final = {_NODE: 3, _CONSTANT: 8, _OUTPUT: 1}
"""For each kind of part of a graph, the number of the field with its name."""


def select_outputs(data: bytes, wanted: Collection[str]) -> tuple[bytes, tuple[str, ...]]:
    """Return a model file without the optional outputs that are not wanted, and the optional outputs that it had.

    Args:
        data: The bytes of the file. If it is not an ONNX file, or a damaged one, it is returned as it is.
        wanted: Names of optional outputs to keep.
    """
    try:
        present = _outputs(data)
        dropped = [name for name in present if name not in wanted]
        return (_without(data, dropped) if dropped else data), present
    except (IndexError, ValueError):
        return data, ()


def shape_of(output: str, spec: Spec) -> list[Any]:
    """Return the shape that an optional output must have, without the batch."""
    if output == STRANGENESS:
        return []
    cells = under(spec.details, EVIDENCE).get("cells")
    return [len(spec.classes), *(cells if isinstance(cells, list) else ["cells"])]


def _outputs(data: bytes) -> tuple[str, ...]:
    names = {
        _name(part, content)
        for number, _, _, graph in fields(memoryview(data))
        if number == _GRAPH
        for part, _, _, content in fields(graph)
        if part == _OUTPUT
    }
    return tuple(name for name in OPTIONAL_OUTPUTS if name.encode() in names)


def _without(data: bytes, outputs: Collection[str]) -> bytes:
    names = {name.encode() for name in outputs}
    prefixes = tuple(f"{name}/".encode() for name in outputs)
    kept: list[bytes | memoryview] = []
    for number, kind, whole, content in fields(memoryview(data)):
        if number != _GRAPH:
            kept.append(whole)
            continue
        parts = []
        for part, _, part_whole, part_content in fields(content):
            name = _name(part, part_content)
            if not (name.startswith(prefixes) or (part == _OUTPUT and name in names)):
                parts.append(part_whole)
        graph = b"".join(parts)
        kept += [varint(number << 3 | kind), varint(len(graph)), graph]
    return b"".join(kept)


def _name(part: int, content: memoryview) -> bytes:
    """Return the name of a part of a graph; empty if parts of this kind are not dropped."""
    if part not in _NAME_FIELD:
        return b""
    return next((bytes(name) for number, _, _, name in fields(content) if number == _NAME_FIELD[part]), b"")
