"""The bytes of picture files, no more of them than is allowed."""

from __future__ import annotations

import os
import stat

from cnn_infer.errors import InputError, PictureError

MAX_BYTES = 400_000_000
"""Files with more bytes than this are refused before they are read: 100 million pixels of four bytes each fit."""


def read_file(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a picture file.

    Raises:
        PictureError: it cannot be read, has more than ``max_bytes``, or is a pipe or a device, of which nobody knows
            when it ends: pass the bytes that came from it.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("it is a pipe or a device, not a file")
            size = status.st_size
            _check_size(size, max_bytes)
            # a buffer is made of as many bytes as are asked for; some files in /proc say 0, and one may grow meanwhile
            data = stream.read(size + 1 if size else max_bytes + 1)
    except IsADirectoryError as error:
        raise PictureError("it is a folder; one found in a folder could not be listed") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise PictureError(f"cannot read it: {getattr(error, 'strerror', None) or error}") from error
    _check_size(len(data), max_bytes)
    return data


def bytes_of(picture: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    """The same of a picture that may be in memory already.

    Raises:
        PictureError: as :func:`read_file`.
        InputError: it is neither a path nor bytes.
    """
    if isinstance(picture, bytes):
        _check_size(len(picture), max_bytes)
        return picture
    if not isinstance(picture, (str, os.PathLike)):
        raise InputError(f"expected a path, bytes, a PIL image or a uint8 array, not {type(picture).__name__}")
    return read_file(picture, max_bytes=max_bytes)


def _open_at_once(path: str, flags: int) -> int:
    """Opening a pipe would wait until somebody writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PictureError(f"the file has more than {max_bytes:,} bytes")
