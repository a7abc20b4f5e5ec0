"""Removal of decoded pictures that no training has used for a while.

After each change of a data set its earlier entries stay in the cache, so they are removed by age. The cache may be any
folder and may hold other people's files: only what is certainly ours is removed, by its name and by its content.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from cnn_train.data import headers
from cnn_train.data.decode_cache import INDEX, PICTURES

UNUSED_DAYS = 30
"""Days after which an unused entry is removed."""

_ENTRY = re.compile(r"[0-9a-f]{32}")
_PARTIAL_ENTRY = re.compile(r"\.[0-9a-f]{32}\.\w+\.partial")  # left by a training that was killed while it decoded
_PARTIAL_INDEX = re.compile(r"\.index\.json\.[0-9a-f]{8}\.partial")
_HEADERS = re.compile(r"headers-[0-9a-f]{32}\.json")
_PARTIAL_HEADERS = re.compile(r"\.headers-[0-9a-f]{32}\.json\.[0-9a-f]{8}\.partial")
_FEATURES = re.compile(r"features-[0-9a-f]{32}\.npy|\.features-[0-9a-f]{32}\.npy\.[0-9a-f]{8}\.partial")


def remove_unused(cache: Path, days: float = UNUSED_DAYS) -> None:
    """Remove the entries that no training has used for ``days``, and nothing else that may lie in the cache.

    Symbolic links and damaged entries stay, and so does what cannot be removed. A training that reads an entry at this
    moment keeps its pictures: on Linux and macOS a file exists until it is closed, and Windows refuses to remove it.

    Args:
        cache: The folder of the cache. It may not exist.
        days: Least age in days, 0 or greater.
    """
    oldest = time.time() - days * 86_400
    with suppress(OSError), os.scandir(cache) as listing:
        for entry in listing:
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    _remove_if_ours(entry)


def _remove_if_ours(entry: os.DirEntry[str]) -> None:
    path = Path(entry.path)
    if entry.is_file(follow_symlinks=False):
        if _is_own_file(path):
            path.unlink()
    elif entry.is_dir(follow_symlinks=False) and _is_own_folder(path):
        # The pictures first: where Windows refuses to remove them, the entry stays complete.
        for name in sorted(os.listdir(path), reverse=True):
            (path / name).unlink()
        path.rmdir()


def _is_own_file(path: Path) -> bool:
    if _HEADERS.fullmatch(path.name):
        return headers.load(path) is not None
    if _PARTIAL_HEADERS.fullmatch(path.name):
        return _begins_as_headers(path)
    return bool(_FEATURES.fullmatch(path.name)) and _is_array(path)


def _is_own_folder(path: Path) -> bool:
    with os.scandir(path) as listing:
        files = {entry.name: entry.is_file(follow_symlinks=False) for entry in listing}
    if not all(files.values()):
        return False
    if _PARTIAL_ENTRY.fullmatch(path.name):
        return all(name in (INDEX, PICTURES) or _PARTIAL_INDEX.fullmatch(name) for name in files)
    return bool(_ENTRY.fullmatch(path.name)) and set(files) <= {INDEX, PICTURES} and _is_index(path / INDEX)


def _begins_as_headers(path: Path) -> bool:
    with path.open("rb") as stream:
        return b'{"kinds": '.startswith(stream.read(10))


def _is_array(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(6) == b"\x93NUMPY"


def _is_index(path: Path) -> bool:
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and set(document) == {"unreadable", "fingerprint"}
