"""Paths that another program lists: one a line, or separated by NUL where names may hold line breaks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from cnn_infer.paths.scratch import append, temporary_file

LONGEST = 1 << 16
"""Bytes of one path; more without a separator is no list of paths."""

_BLOCK = 1 << 16


class Listed:
    """The paths of a stream, to be gone through as often as is needed. They wait on the disk, not in memory.

    Empty entries are left out. A path that does not exist counts: it gets a row that says so.

    Args:
        stream: Read to its end at once.
        separator: One byte.

    Raises:
        ValueError: an entry is longer than :data:`LONGEST` bytes.
        InputError: there is no room for the list.
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
