"""Temporary files, for what memory should not hold."""

from __future__ import annotations

from typing import IO

from cnn_infer.errors import InputError


def temporary_file() -> IO[bytes]:
    """A file without a name, which goes when it is closed.

    Raises:
        InputError: there is no room for it.
    """
    import tempfile  # takes a while to load, and most runs need none

    try:
        return tempfile.TemporaryFile(prefix="cnn-infer-")
    except OSError as error:
        raise _no_room(error) from error


def append(file: IO[bytes], data: bytes) -> None:
    """Write to the end of the file.

    Raises:
        InputError: there is no room for it.
    """
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise _no_room(error) from error


def _no_room(error: OSError) -> InputError:
    import tempfile

    place = f" in {tempfile.tempdir}" if tempfile.tempdir else ""  # where none can be used, the error names them all
    return InputError(
        f"a temporary file{place} cannot be written: {error.strerror} (make room, or let TMPDIR name another folder)"
    )
