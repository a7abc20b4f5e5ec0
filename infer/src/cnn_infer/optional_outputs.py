"""Optional outputs of a model file: which ones it has, and the file without those that are not asked for.

ONNX Runtime computes all outputs of a graph in each run, also those that the caller does not ask for. Its option
``only_execute_path_to_fetches`` changes this in builds for training only. So the nodes of an output that is not asked
for are taken out of the file before ONNX Runtime gets it, and a picture takes the same time as without that output.

The nodes, constants and tensors that belong to an optional output ``NAME`` are named ``NAME/...``. No other node reads
them. An ONNX file is a Protocol Buffers message, whose wire format is a sequence of fields: a key (number and type),
and for messages and texts the length and the bytes (https://protobuf.dev/programming-guides/encoding/). The numbers of
the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

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

_BYTES: Final = 2
"""The wire type of texts, bytes and messages."""

_LONGEST: Final = 10
"""The largest number of bytes of a number: 64 bits, 7 in each byte."""

_FIXED: Final = {1: 8, 5: 4}
"""The length in bytes of the wire types with a fixed length."""


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
    entry = spec.details.get(EVIDENCE)
    cells = entry.get("cells") if isinstance(entry, Mapping) else None
    return [len(spec.classes), *(cells if isinstance(cells, list) else ["cells"])]


def _outputs(data: bytes) -> tuple[str, ...]:
    names = {
        _name(part, content)
        for number, _, _, graph in _fields(memoryview(data))
        if number == _GRAPH
        for part, _, _, content in _fields(graph)
        if part == _OUTPUT
    }
    return tuple(name for name in OPTIONAL_OUTPUTS if name.encode() in names)


def _without(data: bytes, outputs: Collection[str]) -> bytes:
    names = {name.encode() for name in outputs}
    prefixes = tuple(f"{name}/".encode() for name in outputs)
    kept: list[bytes | memoryview] = []
    for number, kind, whole, content in _fields(memoryview(data)):
        if number != _GRAPH:
            kept.append(whole)
            continue
        parts = []
        for part, _, part_whole, part_content in _fields(content):
            name = _name(part, part_content)
            if not (name.startswith(prefixes) or (part == _OUTPUT and name in names)):
                parts.append(part_whole)
        graph = b"".join(parts)
        kept += [_varint(number << 3 | kind), _varint(len(graph)), graph]
    return b"".join(kept)


def _name(part: int, content: memoryview) -> bytes:
    """Return the name of a part of a graph; empty if parts of this kind are not dropped."""
    if part not in _NAME_FIELD:
        return b""
    return next((bytes(name) for number, _, _, name in _fields(content) if number == _NAME_FIELD[part]), b"")


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Yield number, wire type, all bytes and content of each field of a message.

    Raises:
        ValueError, IndexError: the bytes are not a message.
    """
    position = 0
    while position < len(message):
        start = position
        key, position = _read_varint(message, position)
        kind = key & 7
        if kind == 0:
            content = position
            _, position = _read_varint(message, position)
        elif kind == _BYTES:
            length, content = _read_varint(message, position)
            position = content + length
        elif kind in _FIXED:
            content = position
            position += _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, kind, message[start:position], message[content:position]


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and the position after it. Each byte has 7 of its bits, the lowest first."""
    value = 0
    for count in range(_LONGEST):
        byte = message[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError(f"a number has more than {_LONGEST} bytes")


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
