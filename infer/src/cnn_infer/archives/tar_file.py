"""Tar files: their entries, and the unpacked form of compressed ones.

A gzip stream can only be read from its beginning, but pictures are read in sorted order and, in training, more than
once. So a ``.tar.gz`` is decompressed once, into a temporary file without a name that the system removes.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO

from cnn_infer.archives.entries import Entry, archive_name, check_no_bomb, damaged, safe_name
from cnn_infer.console import progress
from cnn_infer.errors import InputError

LONGEST_HEADER = 1 << 20
"""Most bytes of one header. Headers hold names; an archive with longer ones wants memory."""

_BLOCK = 1 << 20  # bytes


class _BoundedHeaders:
    """A file for ``tarfile``, which reads headers from it, each whole into memory."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._stream, self._path = stream, path
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > LONGEST_HEADER:
            raise damaged(self._path, f"it has a header of more than {LONGEST_HEADER:,} bytes")
        return self._stream.read(size)


def entries(stream: IO[bytes], path: str) -> Iterator[Entry]:
    """Yield the files of an uncompressed tar file; folders are left out.

    Args:
        stream: The file.
        path: Its path, for messages.

    Raises:
        InputError: it is no tar file, or it is damaged or cut off.
    """
    stream.seek(0)
    try:
        with tarfile.open(fileobj=_BoundedHeaders(stream, path), mode="r:", errors="surrogateescape") as tar:  # type: ignore[call-overload]
            end = -1
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile would keep them all
                if tar.offset <= end:  # a negative size leads back
                    raise damaged(path, "it is damaged: its members overlap")
                end = tar.offset
                if not member.isdir():
                    name = safe_name(os.fsencode(member.name))
                    regular = member.isreg() and not member.issparse()
                    yield Entry(name, regular, member.offset_data, member.size, member.size)
            end = tar.offset
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise damaged(path, str(error)) from error
    stream.seek(end)
    mark = stream.read(tarfile.BLOCKSIZE)
    if mark.strip(b"\0") or not mark:  # tarfile stops at a damaged header as if it were the end
        raise damaged(path, "it is damaged or cut off: its end mark is missing")


def unpacked(packed: IO[bytes], path: str) -> IO[bytes]:
    """Return a temporary file with the content of a gzip file, which is closed.

    Args:
        packed: The gzip file.
        path: Its path, for messages.

    Raises:
        InputError: the file is damaged or cut off, unpacks to far more than its size, or the disk is full.
    """
    name, size = archive_name(path), 0
    try:
        with packed, ExitStack() as opened, gzip.GzipFile(fileobj=packed) as source:
            target = opened.enter_context(tempfile.TemporaryFile(prefix="cnn-infer-"))
            total = os.fstat(packed.fileno()).st_size
            with progress(f"unpacking {os.path.basename(name)}", total >> 20, unit="MB") as advance:
                done = 0
                while block := source.read(_BLOCK):
                    size += len(block)
                    check_no_bomb(path, size, total)
                    target.write(block)
                    advance((packed.tell() >> 20) - done)
                    done = packed.tell() >> 20
            target.flush()
            opened.pop_all()  # it is the caller's
            return target
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise damaged(path, f"it is damaged or cut off ({error})") from error
    except OSError as error:
        raise InputError(
            f"cannot unpack {name} into a temporary file: {error.strerror or error} "
            "(free space, or set TMPDIR to another folder)"
        ) from error
