"""Paths that lead into archives, such as ``photos.zip/cat/1.jpg``, also at URLs.

The readers of archives are imported on first use: most runs need none.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cnn_infer.archives.entries import archive_name
from cnn_infer.errors import InputError, PictureError
from cnn_infer.storage.pending import ObjectURL
from cnn_infer.storage.urls import ENDINGS, PACKAGES, is_url, protocol_of

if TYPE_CHECKING:
    from cnn_infer.archives.archive import Archive

KEPT = 16
"""Archives on this machine that may stay open, if a quarter of the files that a process may open is not more. An
earlier one is opened and indexed again when it is needed."""

_IN_PATH = re.compile(rf"(?:{'|'.join(map(re.escape, ENDINGS))})(?=[/\\]|$)", re.IGNORECASE)

_opened: OrderedDict[str, tuple[object, Archive]] = OrderedDict()
_opening: dict[str, threading.Lock] = {}
_choosing = threading.Lock()


def split(path: str) -> tuple[str, str] | None:
    """Divide a path into that of an archive and the one in it, which is empty for the archive itself; else None.

    The path in it has no doubled or trailing slashes: they change nothing, as on a disk.
    """
    if is_url(path) and protocol_of(path) not in PACKAGES:
        return None
    for found in _IN_PATH.finditer(path):
        archive = path[: found.end()]
        if is_url(path):
            if _version(archive) is not None:
                return archive, _single_slashes(path[found.end() :])
        elif os.path.isfile(archive):
            return archive, _single_slashes(path[found.end() :].replace(os.sep, "/"))
        elif not os.path.isdir(archive):
            return None
    return None


def _single_slashes(path: str) -> str:
    return "/".join(filter(None, path.split("/")))


def normal(path: str) -> str:
    """Return a path into an archive as the paths of its files start; any other path unchanged."""
    found = split(path)
    return path if found is None else "/".join(filter(None, found))


def opened(path: str) -> Archive:
    """Return the archive at a path; it is opened and indexed once, and again if the file has changed or :data:`KEPT`
    or more others were used since. Threads that read an archive keep it open.

    Raises:
        InputError: as for :class:`Archive`.
    """
    if is_url(path):
        from cnn_infer.archives import remote

        return remote.opened(path)
    from cnn_infer.archives.archive import Archive

    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f"cannot read {archive_name(path)}: {error.strerror}") from error
    state = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    key = os.path.abspath(path)
    with _opening.setdefault(key, threading.Lock()):
        known = _opened.get(key)
        if known is None or known[0] != state:
            known = state, Archive(path)
        with _choosing:
            _opened[key] = known
            _opened.move_to_end(key)
            while len(_opened) > _most_open():
                _opened.popitem(last=False)
        return known[1]


def _most_open() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return KEPT
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1024 if limit == resource.RLIM_INFINITY else max(KEPT, limit // 4)


def _version(url: str) -> str | None:
    from cnn_infer.archives import remote  # most runs have no URL

    return remote.version(url)


def is_archive(path: str) -> bool:
    """Whether a path is an archive or a folder in one."""
    found = split(path)
    return found is not None and (not found[1] or opened(found[0]).has_folder(found[1]))


def is_member(path: str) -> bool:
    """Whether a path is that of a file in an archive."""
    found = split(path)
    return found is not None and bool(found[1]) and opened(found[0]).has_file(found[1])


def read_member(path: str, max_bytes: int) -> bytes | None:
    """Return the bytes of a file in an archive; None if the path does not lead into an archive.

    Raises:
        PictureError: as for :meth:`Archive.read`, or the archive cannot be read.
    """
    try:
        found = split(path)
        if found is None or not found[1]:
            return None
        archive = opened(found[0])
    except InputError as error:
        raise PictureError(str(error)) from error
    return archive.read(found[1], max_bytes)


def files_below(path: str) -> Iterator[str]:
    """Yield the paths of the files in an archive or in a folder of it, sorted, each starting with that of the archive.

    Raises:
        InputError: as for :class:`Archive`.
    """
    found = split(path)
    if found is not None:
        for name in opened(found[0]).below(found[1]):
            yield f"{found[0]}/{name}"


def folders_in(path: str) -> list[str]:
    """Return the names of the folders directly in an archive or in a folder of it, sorted as its files are.

    Raises:
        InputError: as for :class:`Archive`.
    """
    return list(dict.fromkeys(name.partition("/")[0] for name in _names_below(path) if "/" in name))


def names_in(path: str) -> list[str]:
    """Return the names of the files directly in an archive or in a folder of it, sorted.

    Raises:
        InputError: as for :class:`Archive`.
    """
    return [name for name in _names_below(path) if "/" not in name]


def _names_below(path: str) -> Iterator[str]:
    start = len(normal(path)) + 1
    return (file[start:] for file in files_below(path))


def left_out(path: str) -> dict[str, int]:
    """Return the number of files that an archive has and that are never read, by the reason."""
    found = split(path)
    if found is None or found[1]:
        return {}
    archive = opened(found[0])
    counts = {"unsafe name": archive.unsafe, "link or device": archive.special}
    return {reason: count for reason, count in counts.items() if count}


def size_of(path: str) -> int:
    """Return the bytes of a file, also of one in an archive.

    Raises:
        OSError: the path does not exist.
        InputError: as for :class:`Archive`.
        PictureError: there is no such file in the archive.
    """
    found = None if os.path.exists(path) else split(path)
    return os.stat(path).st_size if found is None else opened(found[0]).size(found[1])


def stat_of(path: str) -> os.stat_result:
    """Return the status of a file, or of the archive that contains it.

    Raises:
        OSError: neither exists.
    """
    try:
        return os.stat(path)
    except (NotADirectoryError, FileNotFoundError):
        found = split(path)
        if found is None:
            raise
        return os.stat(found[0])


def facts_of(path: str) -> str:
    """Return a text that changes when a file does, or the archive that contains it: size and time, or version of a URL.

    The URL of an object that no listing has found, for example from a list of paths, has none: it is not asked for.

    Raises:
        OSError: there is no such file.
    """
    if is_url(path):
        if isinstance(path, ObjectURL):
            return f"{path.size} {path.version}"
        found = split(path)
        return "unknown" if found is None else str(_version(found[0]))
    status = stat_of(path)
    return f"{status.st_size} {status.st_mtime_ns}"
