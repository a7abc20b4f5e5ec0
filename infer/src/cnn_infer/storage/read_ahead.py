"""Read objects ahead of the threads that decode them, so that they do not wait for the latency of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from cnn_infer.errors import InputError, PictureError
from cnn_infer.storage.failures import StorageError, TooLargeError, reason_of
from cnn_infer.storage.filesystem import connect
from cnn_infer.storage.objects import fetch
from cnn_infer.storage.pending import ObjectURL, Pending
from cnn_infer.storage.requests import IN_FLIGHT, start, wait_for
from cnn_infer.storage.urls import is_url, resolved

if TYPE_CHECKING:
    from concurrent.futures import Future

BUDGET = 256 << 20
"""Bytes of objects in memory that are not decoded yet. A single larger object is read when it is the next one."""


class ReadAhead:
    """Starts to read each object when an iterator reaches it.

    At most :data:`IN_FLIGHT` objects are read at one time, in the order of the iterator, and their bytes in memory stay
    below :data:`BUDGET`. An object that does not fit waits until there is room, or until all before it are used: later
    ones never keep the next one from being read.

    Args:
        max_bytes: A larger object is not read.
        is_object: Whether a URL is that of an object, and not of a file in an archive.
    """

    def __init__(self, max_bytes: int, is_object: Callable[[str], bool]) -> None:
        self._max_bytes = max_bytes
        self._is_object = is_object
        self._futures: dict[int, Future[bytes]] = {}
        self._held: dict[int, int] = {}  # bytes by ticket, in the order of the iterator; only the loop's thread uses it
        self._total = 0
        self._tickets = count()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._released = asyncio.Event()
        self._cancelled = False

    def started(self, url: str) -> str | Pending:
        """Start to read the object at a URL. A URL that is not that of an object is returned as it is."""
        return self._start(url) if self._can_be_read_ahead(url) else url

    def _can_be_read_ahead(self, url: str) -> bool:
        """Whether this is an object; what is wrong with another URL is found out by whoever reads it."""
        if isinstance(url, ObjectURL):
            return True
        try:
            place = resolved(url)
            if not is_url(place):
                return False
            connect(place)
            return self._is_object(place)
        except InputError:
            return False

    def _start(self, url: str) -> Pending:
        ticket = next(self._tickets)
        future = self._futures[ticket] = start(self._read(url, ticket))
        if self._cancelled:
            future.cancel()
        return Pending(url, future, self, ticket)

    async def _read(self, url: str, ticket: int) -> bytes:
        async def reserve(size: int) -> None:
            while self._total + size - self._held[ticket] > BUDGET and ticket != next(iter(self._held)):
                self._released.clear()
                await self._released.wait()
            self._total += size - self._held[ticket]
            self._held[ticket] = size

        self._held[ticket] = 0
        async with self._slots:
            _check_listed(url, self._max_bytes)
            return await fetch(resolved(url), self._max_bytes, reserve)

    def release(self, ticket: int) -> None:
        """Stop counting an object, because its bytes have been used. Any thread may call it."""
        from fsspec.asyn import get_loop

        self._futures.pop(ticket, None)
        get_loop().call_soon_threadsafe(self._release, ticket)

    def _release(self, ticket: int) -> None:
        self._total -= self._held.pop(ticket, 0)
        self._released.set()

    def cancel(self) -> None:
        """End all requests; whoever waits for one gets a :class:`cnn_infer.stream.EndedError`."""
        self._cancelled = True
        for future in list(self._futures.values()):
            future.cancel()


def read_now(url: str, max_bytes: int) -> bytes:
    """Return the bytes of an object that is not read ahead.

    Raises:
        PictureError: the object cannot be read, or is larger than ``max_bytes``.
    """
    try:
        _check_listed(url, max_bytes)
        place = resolved(url)
        connect(place)  # a missing package is reported before the loop of fsspec is needed
        return wait_for(fetch(place, max_bytes))
    except (InputError, TooLargeError) as error:
        raise picture_error(error, max_bytes) from error


def _check_listed(url: str, max_bytes: int) -> None:
    """Check what a listing says of an object, before any request."""
    if isinstance(url, ObjectURL):
        if url.failure is not None:
            raise StorageError(url, url.failure)
        if url.size is not None and url.size > max_bytes:
            raise TooLargeError


def picture_error(error: InputError | TooLargeError, max_bytes: int) -> PictureError:
    """Return the error for the row of a picture, also for a package that is not installed."""
    if isinstance(error, TooLargeError):
        return PictureError(f"the file has more than {max_bytes:,} bytes")
    return PictureError(f"cannot read it: {reason_of(error)}")
