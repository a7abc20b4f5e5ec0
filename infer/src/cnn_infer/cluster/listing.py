"""The listing of a job, cut into parts. One part is in memory at a time, however many pictures there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from cnn_infer.paths.digest import digest_of
from cnn_infer.paths.find import Found


class Listing(NamedTuple):
    """The size and the digest of a listing.

    Attributes:
        parts: Number of parts.
        pictures: Number of pictures.
        digest: SHA-256, hexadecimal, of names, sizes and modification times in order, and of the cuts.
    """

    parts: int
    pictures: int
    digest: str


def cut(
    found: Iterable[Found], size: int, keep: Callable[[int, list[Found]], None], advance: Callable[[int], None]
) -> Listing:
    """Cut a listing into parts.

    Args:
        found: The pictures, in order; read once.
        size: Pictures in each part but the last, at least 1.
        keep: Called with the number and the pictures of each part.
        advance: Called with the number of pictures of each part.
    """
    digest = hashlib.sha256()
    parts = pictures = 0
    remaining = iter(found)
    while part := list(islice(remaining, size)):
        keep(parts, part)
        digest.update(digest_of(picture.path for picture in part).encode())
        parts, pictures = parts + 1, pictures + len(part)
        advance(len(part))
    return Listing(parts, pictures, digest.hexdigest())
