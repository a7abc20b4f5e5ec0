"""The listing of a job, cut into parts. One part is in memory at a time, however many pictures there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

from cnn_infer.paths.digest import digest_of
from cnn_infer.paths.find import Found
from cnn_infer.storage.pending import ObjectURL


class Listing(NamedTuple):
    """The size and the digest of a listing.

    Attributes:
        parts: Number of parts.
        pictures: Number of pictures.
        digest: SHA-256, hexadecimal, of names, sizes and modification times in order, and of the cuts.
        size: Pictures in each part but the last, at least 1.
    """

    parts: int
    pictures: int
    digest: str
    size: int

    def pictures_in(self, part: int) -> int:
        """Return the number of pictures in a part."""
        return min(self.size, self.pictures - part * self.size)


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
    return Listing(parts, pictures, digest.hexdigest(), size)


def list_of(pictures: Iterable[Found]) -> bytes:
    """Return the pictures of a part as JSON, grouped by the path under which they were found.

    An object has beside its URL what the listing says of it.
    """
    groups: list[tuple[str, list[Any]]] = []
    for path, given in pictures:
        if not groups or groups[-1][0] != given:
            groups.append((given, []))
        known = [path, path.size, path.version, path.failure] if isinstance(path, ObjectURL) else path
        groups[-1][1].append(known)
    return json.dumps(groups).encode()


def pictures_of(data: bytes) -> list[Found]:
    """Return the pictures from a result of :func:`list_of`.

    Raises:
        ValueError, TypeError, RecursionError: it is no such result.
    """
    return [Found(_path(entry), str(given)) for given, entries in json.loads(data) for entry in entries]


def _path(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    url, size, version, failure = entry
    return ObjectURL(str(url), size, str(version), failure)
