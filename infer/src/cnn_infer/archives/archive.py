"""An archive that is open for reading: its files in sorted order, and the bytes of each."""

from __future__ import annotations

import os
import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import IO

from cnn_infer.archives import tar_file, zip_file
from cnn_infer.archives.entries import Entry, archive_name, check_no_bomb, damaged
from cnn_infer.archives.remote_copy import copied
from cnn_infer.errors import InputError, PictureError
from cnn_infer.storage.urls import is_url
from cnn_infer.system.names import as_text

_BELOW = b"\0"  # in place of the slash: a folder sorts before the names that it begins, as in a search of the disk


class Archive:
    """An archive that is open for reading. It takes memory for the names and 48 bytes for each file.

    Any number of threads may read.

    Args:
        path: The archive: a file, or a URL, which is copied into a temporary file.

    Attributes:
        unsafe: Number of files that are left out because their names are absolute or leave the archive.
        special: Number of links and devices, which are left out.

    Raises:
        InputError: it cannot be read, is damaged, has two files of one name, or is a decompression bomb.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._is_zip = path.lower().endswith(".zip")
        self.unsafe = self.special = 0
        try:
            stream = copied(path) if is_url(path) else open(path, "rb")  # noqa: SIM115
            size = os.fstat(stream.fileno()).st_size
            is_packed = path.lower().endswith("gz")
            self._stream: IO[bytes] = tar_file.unpacked(stream, path) if is_packed else stream
            close = weakref.finalize(self, self._stream.close)
            try:
                self._fill(path, size)
            except BaseException:  # which keeps this object, and so the file, for as long as the caller keeps the error
                close()
                raise
        except OSError as error:
            raise InputError(f"cannot read {archive_name(path)}: {error.strerror}") from error

    def _fill(self, path: str, size: int) -> None:
        keys: list[bytes] = []
        columns = [array("q") for _ in range(5)]
        total = 0
        for entry in (zip_file if self._is_zip else tar_file).entries(self._stream, path):
            self.unsafe += entry.name is None
            self.special += entry.name is not None and not entry.regular
            if entry.name is None or not entry.regular:
                continue
            keys.append(entry.name.replace(b"/", _BELOW))
            try:
                for column, value in zip(columns, entry[2:], strict=True):
                    column.append(value)
            except OverflowError as error:
                raise damaged(path, "a file has an impossible size") from error
            total += entry.size
        if self._is_zip:
            check_no_bomb(path, total, size)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        for first, second in pairwise(order):
            if keys[first] == keys[second]:
                name = os.fsdecode(keys[first].replace(_BELOW, b"/"))
                raise damaged(path, f"it has two files {as_text(name, 'backslashreplace')}")
        self._names = b"".join(keys[at] for at in order)
        ends = array("q", [0])
        for at in order:
            ends.append(ends[-1] + len(keys[at]))
        self._ends = ends
        self._columns = [array("q", (column[at] for at in order)) for column in columns]

    def __len__(self) -> int:
        """Number of files."""
        return len(self._ends) - 1

    def __getitem__(self, at: int) -> bytes:
        """Return the sort key of a file: its path with NUL for each slash."""
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self._names[self._ends[at] : self._ends[at + 1]]

    def _find(self, member: str) -> tuple[bytes, int]:
        key = os.fsencode(member).replace(b"/", _BELOW)
        return key, bisect_left(self, key)

    def has_file(self, member: str) -> bool:
        """Whether there is a file at a path in the archive."""
        key, at = self._find(member)
        return at < len(self) and self[at] == key

    def has_folder(self, member: str) -> bool:
        """Whether there are files below a path in the archive; the empty path is the archive itself."""
        return next(self.below(member), None) is not None if member else True

    def below(self, member: str) -> Iterator[str]:
        """Yield the paths of the files below a path in the archive, in the order in which a folder is searched."""
        key, at = self._find(f"{member}/" if member else "")
        while at < len(self) and self[at].startswith(key):
            yield os.fsdecode(self[at].replace(_BELOW, b"/"))
            at += 1

    def size(self, member: str) -> int:
        """Return the bytes of a file as the archive declares them. Raises :class:`PictureError` if there is none."""
        return self._entry(member).size

    def _entry(self, member: str) -> Entry:
        key, at = self._find(member)
        if at >= len(self) or self[at] != key:
            raise PictureError("cannot read it: there is no such file in the archive")
        return Entry(b"", True, *(column[at] for column in self._columns))

    def read(self, member: str, max_bytes: int) -> bytes:
        """Return the bytes of a file.

        Raises:
            PictureError: there is no such file, it has more than ``max_bytes`` bytes, or it cannot be decompressed.
        """
        entry = self._entry(member)
        if entry.size > max_bytes:
            raise PictureError(f"the file has more than {max_bytes:,} bytes")
        try:
            if self._is_zip:
                return zip_file.read(self._at, entry)
            data = self._at(entry.start, entry.size)
        except OSError as error:
            raise PictureError(f"cannot read it: {error.strerror or error}") from error
        if len(data) != entry.size:
            raise PictureError("it is damaged in its archive: cut off")
        return data

    def _at(self, position: int, count: int) -> bytes:
        with self._lock:
            self._stream.seek(position)
            return self._stream.read(count)
