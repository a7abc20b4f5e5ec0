"""Files that are either whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` only once it is written and on disk.

    It is written in the same folder, flushed to the disk and renamed. Where the block raises (a full
    disk, Ctrl-C), the file that stood at ``path`` stays as it was and nothing is left behind. A symbolic
    link stays one, to the new file. What is no file, like a pipe or ``/dev/null``, is written to as it is.

    Raises:
        OSError: the folder is missing, the disk is full, or writing is not permitted.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as stream:
            yield stream
        return
    # named before it is made, so that Ctrl-C at any moment leaves nothing
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    try:
        with open(partial, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(target)  # nobody asked for the other, and "No space left on device" has none
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` at ``path``, whole or not at all."""
    with replacing(path) as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Put ``text`` at ``path`` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())
