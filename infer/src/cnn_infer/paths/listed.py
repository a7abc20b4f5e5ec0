"""Lists of paths from another program: one path per line, or separated by NUL bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from cnn_infer.paths.scratch import append, temporary_file

LONGEST = 1 << 16
"""Longest path, in bytes. Longer input without a separator is not a list of paths."""

_BLOCK = 1 << 16  # bytes


class Listed:
    """The paths in a stream. It can be iterated repeatedly; a temporary file holds the list, not memory.

    Empty entries are left out. A path that does not exist is kept: its row shows the error.

    Args:
        stream: A binary stream; it is read to its end.
        separator: One byte.

    Raises:
        ValueError: a path is longer than :data:`LONGEST` bytes.
        InputError: the temporary file cannot be written, for example because the disk is full.
    """

    def __init__(self, stream: IO[bytes], separator: bytes = b"\n") -> None:
        self._file = temporary_file()
        self._separator = separator
        since = 0  # bytes since the last separator
        while block := stream.read(_BLOCK):
            parts = block.split(separator)
            parts[0] = b"." * since + parts[0]
            if max(map(len, parts)) > LONGEST:
                raise ValueError(f"a path of more than {LONGEST:,} bytes")
            since = len(parts[-1])
            append(self._file, block)

    def __iter__(self) -> Iterator[str]:
        position, rest = 0, b""
        while True:
            self._file.seek(position)
            block = self._file.read(_BLOCK)
            position += len(block)
            *whole, rest = (rest + block).split(self._separator)
            for name in whole if block else [rest]:
                name = name.removesuffix(b"\r") if self._separator == b"\n" else name
                if name:
                    yield os.fsdecode(name)
            if not block:
                return
