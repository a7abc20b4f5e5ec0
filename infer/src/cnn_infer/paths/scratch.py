"""Temporary files for data that may be too large for memory. Small ones stay in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import IO

from cnn_infer.errors import InputError

MEMORY = 1 << 20
"""A file of at most this many bytes stays in memory."""


def temporary_file() -> IO[bytes]:
    """Return a new temporary file, open for reading and writing. It has no name and is deleted when closed.

    Fill it with :func:`append`: that moves it to the disk once it is larger than :data:`MEMORY`.
    """
    import tempfile  # imported late: few runs need it

    return tempfile.SpooledTemporaryFile(MEMORY, prefix="cnn-infer-")


def append(file: IO[bytes], data: bytes) -> None:
    """Write ``data`` at the current position, which is the end while a file is being filled, and flush.

    Raises:
        InputError: no folder for temporary files can be written, or the disk is full.
    """
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        with suppress(OSError):  # it tries to write the rest again
            file.close()
        raise _write_error(error) from error


def _write_error(error: OSError) -> InputError:
    import tempfile

    what = "the list of files is too long for memory, and a temporary file cannot be written"
    if tempfile.tempdir is None:  # the error names all folders that Python tried
        return InputError(f"{what}: {error.strerror} (set TMPDIR to a folder that can be written)")
    return InputError(f"{what} in {tempfile.tempdir}: {error.strerror} (free space, or set TMPDIR to another folder)")
