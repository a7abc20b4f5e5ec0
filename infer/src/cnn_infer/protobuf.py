"""The wire format of Protocol Buffers, in which ONNX files are written.

A message is a sequence of fields: a key (number and type), and for messages and texts the length and the bytes
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_BYTES: Final = 2
"""The wire type of texts, bytes and messages."""

_LONGEST: Final = 10
"""The largest number of bytes of a number: 64 bits, 7 in each byte."""

_FIXED: Final = {1: 8, 5: 4}
"""The length in bytes of the wire types with a fixed length."""


def fields(message: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Yield number, wire type, all bytes and content of each field of a message.

    Raises:
        ValueError, IndexError: the bytes are not a message.
    """
    position = 0
    while position < len(message):
        start = position
        key, position = read_varint(message, position)
        kind = key & 7
        if kind == 0:
            content = position
            _, position = read_varint(message, position)
        elif kind == _BYTES:
            length, content = read_varint(message, position)
            position = content + length
        elif kind in _FIXED:
            content = position
            position += _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, kind, message[start:position], message[content:position]


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number and the position after it. Each byte has 7 of its bits, the lowest first."""
    value = 0
    for count in range(_LONGEST):
        byte = message[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise ValueError(f"a number has more than {_LONGEST} bytes")


def varint(value: int) -> bytes:
    """Return the bytes of a number of at least 0."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
