"""Atomic file writes: after a crash, the old or the new content is complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cnn_infer.system.notice import warn_once

_NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def flush_to_disk(stream: IO[bytes]) -> None:
    """Write buffered data of an open file to the disk, so that a power failure does not lose it.

    Some network and FUSE file systems, and some sandboxes, do not support this: then the data is handed to the
    operating system, and one warning is logged.

    Raises:
        OSError: the disk is full, or it reports an error.
    """
    stream.flush()
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
        warn_once(
            f"the file system does not support fsync ({error.strerror}): files are written, but a power failure may "
            "lose the newest"
        )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces ``path`` at the end of the block.

    The data goes to a temporary file in the same folder, is flushed to disk, and then renamed. If the block raises
    (a full disk, Ctrl-C), the old file at ``path`` stays unchanged and the temporary file is deleted. A symbolic link
    at ``path`` is kept: its target is replaced. A pipe or a device is written to directly.

    Yields:
        The file, open for writing.

    Raises:
        OSError: the folder is missing, the disk is full, or writing is not permitted.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as stream:
            yield stream
        return
    # the name is known before the file exists, so that Ctrl-C at any moment can delete it
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    try:
        with open(partial, "xb") as stream:
            yield stream
            flush_to_disk(stream)
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(target)  # the user knows this name; "No space left on device" comes without one
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file ``path`` with ``data``. Raises as :func:`replacing`."""
    with replacing(path) as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file ``path`` with ``text`` in UTF-8. Raises as :func:`replacing`."""
    write_bytes(path, text.encode())
