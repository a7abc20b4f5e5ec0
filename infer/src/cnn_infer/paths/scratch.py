"""Temporary files for data that may be too large for memory."""

from __future__ import annotations

from typing import IO

from cnn_infer.errors import InputError


def temporary_file() -> IO[bytes]:
    """Return a new temporary file, open for reading and writing. It has no name and is deleted when closed.

    Raises:
        InputError: no folder for temporary files can be written.
    """
    import tempfile  # imported late: few runs need it

    try:
        return tempfile.TemporaryFile(prefix="cnn-infer-")
    except OSError as error:
        raise _write_error(error) from error


def append(file: IO[bytes], data: bytes) -> None:
    """Write ``data`` at the current position, which is the end while a file is being filled, and flush.

    Raises:
        InputError: the disk is full, or the file cannot be written for another reason.
    """
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise _write_error(error) from error


def _write_error(error: OSError) -> InputError:
    import tempfile

    place = f" in {tempfile.tempdir}" if tempfile.tempdir else ""  # without one, the error names all folders tried
    return InputError(
        f"cannot write a temporary file{place}: {error.strerror} (free space, or set TMPDIR to another folder)"
    )
