"""Archives at URLs: the version of each, its copy on this machine, and what failed, for all threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from cnn_infer.errors import InputError

if TYPE_CHECKING:
    from cnn_infer.archives.archive import Archive

KEPT = 8
"""Copies that stay open. Each takes as much of the disk as the archive has bytes; an earlier one is copied again."""

FAILED_SECONDS = 60.0
"""How long a failure is remembered. Otherwise each picture of an archive would take five attempts or another copy."""

Result = TypeVar("Result")


class _Once(Generic[Result]):
    """A result that the first thread finds, while the others wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Result] | None = None
        self._failed: str | None = None  # an exception would keep the frames that raised it, and their files
        self._until = 0.0  # of time.monotonic()

    def get(self, find: Callable[[], Result]) -> Result:
        """Return the result. Raises what ``find`` raises, and the same again as long as a failure is remembered."""
        with self._lock:
            if self._found is None:
                if self._failed is not None and time.monotonic() < self._until:
                    raise InputError(self._failed)
                try:
                    self._found = (find(),)
                except InputError as error:
                    self._failed, self._until = str(error), time.monotonic() + FAILED_SECONDS
                    raise
            return self._found[0]


_versions: dict[str, _Once[str | None]] = {}
_copies: OrderedDict[str, _Once[Archive]] = OrderedDict()
_choosing = threading.Lock()


def version(url: str) -> str | None:
    """Return the version of an object when it was first asked for; None if there is no object, but perhaps a folder.

    Raises:
        InputError: the store cannot be reached.
    """

    def find() -> str | None:
        from cnn_infer.storage.objects import look_up

        found = look_up(url)
        return None if found is None or found.folder else f"{found.size} {found.version}"

    with _choosing:
        once = _versions.setdefault(url, _Once())
    return once.get(find)


def opened(url: str) -> Archive:
    """Return an archive, which is copied and indexed once; again if :data:`KEPT` others were used since.

    Threads that use an archive keep its copy. While one is copied, others can be opened and read.

    Raises:
        InputError: as for :class:`cnn_infer.archives.archive.Archive`.
    """
    from cnn_infer.archives.archive import Archive

    with _choosing:
        once = _copies.setdefault(url, _Once())
        _copies.move_to_end(url)
        while len(_copies) > KEPT:
            _copies.popitem(last=False)
    return once.get(lambda: Archive(url))
