"""What the readers of archives have in common: an entry, its safe name, and limits against decompression bombs."""

from __future__ import annotations

import re
from typing import NamedTuple

from cnn_infer.errors import InputError
from cnn_infer.storage.urls import is_url, shown
from cnn_infer.system.names import as_text

BOMB_BYTES = 1 << 30
BOMB_RATIO = 100
"""An archive that unpacks to more than :data:`BOMB_BYTES` and to more than :data:`BOMB_RATIO` times its size is
refused: pictures are compressed already, so that no archive of them comes near."""


class Entry(NamedTuple):
    """A file in an archive.

    Attributes:
        name: Its path in the archive, with slashes, or None if that is absolute or has ``..``, ``.`` or empty parts.
        regular: Whether it is a regular file, not a link or a device.
        start: Where it is in the archive: the local header in zip files, the data in tar files.
        stored: Bytes in the archive.
        size: Bytes after decompression, as the archive declares.
        check: CRC-32 of the file; 0 in tar files, which have none.
        method: Compression method of zip files; 0 for none, -1 for an encrypted file.
    """

    name: bytes | None
    regular: bool
    start: int
    stored: int
    size: int
    check: int = 0
    method: int = 0


def safe_name(name: bytes) -> bytes | None:
    """Return the path of a file in an archive with slashes, or None if it is absolute or has unsafe parts."""
    path = name.replace(b"\\", b"/")
    path = path.removeprefix(b"./")
    if not path or b"\0" in path or re.match(rb"[A-Za-z]:", path):
        return None
    return None if any(part in (b"", b".", b"..") for part in path.split(b"/")) else path


def archive_name(path: str) -> str:
    """Return the path or the URL of an archive for messages, without the credentials of a URL."""
    return shown(path) if is_url(path) else as_text(path, "backslashreplace")


def check_no_bomb(path: str, unpacked: int, packed: int) -> None:
    """Refuse a decompression bomb.

    Args:
        path: The archive.
        unpacked: Bytes after decompression.
        packed: Bytes before.

    Raises:
        InputError: see :data:`BOMB_RATIO`.
    """
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        raise InputError(
            f"{archive_name(path)} unpacks to more than {BOMB_RATIO} times its size, as a decompression bomb does: "
            "unpack it yourself if you trust it"
        )


def damaged(path: str, reason: str) -> InputError:
    """Return the error for an archive that cannot be used."""
    return InputError(f"{archive_name(path)} cannot be read as an archive: {reason}")
