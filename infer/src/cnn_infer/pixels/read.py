"""Read picture files, up to a limit on their size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from cnn_infer.archives.access import read_member, split
from cnn_infer.errors import InputError, PictureError
from cnn_infer.storage.pending import Pending
from cnn_infer.storage.urls import is_url, resolved
from cnn_infer.stream import in_order
from cnn_infer.system import disk_cache

if TYPE_CHECKING:
    from cnn_infer.storage.read_ahead import ReadAhead
    from cnn_infer.stream import Workers

Result = TypeVar("Result")

MAX_BYTES = 400_000_000
"""Default limit on a file's size in bytes: enough for 100 million pixels of four bytes each."""

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Text mode is Windows' default. Without the last flag, opening a pipe waits for a writer."""


_BLOCK = 1 << 16  # bytes of a file that reports no size


def read_file(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a picture file.

    Pipes and devices are refused, because they may never end. Read them yourself and pass the bytes.

    Args:
        path: The file, also one in an archive, such as ``photos.zip/cat/1.jpg``, or a URL.
        max_bytes: A larger file is refused before it is read.

    Raises:
        PictureError: the file cannot be read, is larger than ``max_bytes``, or is a folder, a pipe or a device.
    """
    if isinstance(path, Pending):
        return path.data(max_bytes)
    if isinstance(path, str) and is_url(path):
        try:
            place = resolved(path)
        except InputError as error:
            raise PictureError(str(error)) from error
        if is_url(place):
            from cnn_infer.storage.read_ahead import read_now  # most pictures are at no URL

            found = read_member(place, max_bytes)
            return read_now(path, max_bytes) if found is None else found
        path = place
    try:
        data = _read_local(path, max_bytes)
    except (NotADirectoryError, FileNotFoundError) as error:
        found = read_member(os.fsdecode(path), max_bytes)
        if found is None:
            raise PictureError(f"cannot read it: {error.strerror}") from error
        return found
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise PictureError(f"cannot read it: {getattr(error, 'strerror', None) or error}") from error
    _check_size(len(data), max_bytes)
    return data


def read_in_order(
    function: Callable[[list[Any]], list[Result]],
    pictures: Iterable[Any],
    max_bytes: int,
    *,
    chunk: int,
    workers: int,
    parts: int,
    used: Workers | None,
) -> Generator[Result, None, None]:
    """Yield the results of ``function`` as :func:`in_order` does; objects at URLs and files are read ahead of it.

    Args:
        function: Takes at most ``chunk`` pictures; the URL of an object is replaced by a path for :func:`read_file`.
        pictures: The pictures.
        max_bytes: A larger object is not read.
        chunk, workers, parts, used: As for :func:`in_order`.
    """
    reads: ReadAhead | None = None

    def started() -> Iterator[Any]:
        nonlocal reads
        for picture in disk_cache.read_ahead(pictures):
            if is_url(picture):
                if reads is None:
                    from cnn_infer.storage.read_ahead import ReadAhead

                    reads = ReadAhead(max_bytes, lambda url: split(url) is None)
                yield reads.started(picture)
            else:
                yield picture

    def end() -> None:
        if reads is not None:
            reads.cancel()

    return in_order(function, started(), chunk=chunk, workers=workers, parts=parts, used=used, on_end=end)


def bytes_of(picture: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    """Return the bytes of a picture file that is passed as a path or as bytes.

    Raises:
        PictureError: as :func:`read_file`, or there are more than ``max_bytes`` bytes.
        InputError: ``picture`` is neither a path nor bytes.
    """
    if isinstance(picture, bytes):
        _check_size(len(picture), max_bytes)
        return picture
    if not isinstance(picture, (str, os.PathLike)):
        raise InputError(f"expected a path, bytes, a PIL image or a uint8 array, not {type(picture).__name__}")
    return read_file(picture, max_bytes=max_bytes)


def _read_local(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the bytes of a file on this machine. The calls of ``open()`` take as long as reading a small picture."""
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise PictureError("it is a folder; one found in a folder could not be listed")
        if not stat.S_ISREG(status.st_mode):
            raise PictureError("it is a pipe or a device, not a file")
        _check_size(status.st_size, max_bytes)
        size = status.st_size or max_bytes + 1  # some files in /proc report 0
        most = status.st_size or _BLOCK
        data = os.read(descriptor, min(size, most))
        while len(data) < size and (more := os.read(descriptor, min(size - len(data), most))):
            data += more
        return data
    finally:
        os.close(descriptor)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PictureError(f"the file has more than {max_bytes:,} bytes")
