"""Process a stream of items with several threads: results in order, a few chunks in memory at a time."""

from __future__ import annotations

import _thread
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from cnn_infer.system.notice import warn_once

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

PARTS = 8
"""Into how many small chunks a whole one is cut where all threads should have work."""

TOO_FEW_THREADS = (
    "the system does not start all worker threads (raise its limit: ulimit -u, or the container's pids limit): "
    "the main thread does their work, which is slower"
)
"""The warning where a thread cannot be started."""


class EndedError(BaseException):
    """The stream ends while a chunk waits: no error of its items."""


_waits: set[Callable[[], None]] = set()


def end_waits() -> None:
    """End what the chunks of all streams wait for, such as requests, for example at Ctrl-C; see :func:`in_order`."""
    for end in list(_waits):
        end()


class Workers:
    """The threads of a stream, for its report.

    Args:
        asked: Number of threads that were asked for.
    """

    def __init__(self, asked: int) -> None:
        self._asked = asked
        self._worked: set[int] = set()
        self._refused = False

    def add(self) -> None:
        """Note that this thread processes a chunk."""
        self._worked.add(_thread.get_ident())

    def refuse(self) -> None:
        """Note that the system refused to start a thread."""
        self._refused = True

    @property
    def threads(self) -> int:
        """The number that was asked for, or of those that worked if the system did not start them all."""
        return min(self._asked, len(self._worked)) if self._refused else self._asked


def in_order(
    function: Callable[[list[Item]], list[Result]],
    items: Iterable[Item],
    *,
    chunk: int,
    workers: int,
    parts: int = 1,
    used: Workers | None = None,
    on_end: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield the results of ``function`` in the order of ``items``.

    A thread processes a whole chunk, so threads exchange nothing for each item. The first chunks are small, so that a
    few items use all threads, and those that no thread has begun when the items end are cut into small ones, so that
    the threads end at the same time. Items for ``2 * workers + 1`` chunks are in memory at most, however many there
    are. Closing the generator early drops the chunks that have not started. If the system refuses to start a thread,
    the calling thread processes chunks too, and one warning is logged.

    Args:
        function: Takes at most ``chunk`` items and returns one result for each.
        items: Read only as far as results are needed.
        chunk: Items for each call of ``function``, at least 1.
        workers: Threads, at least 1.
        parts: A small chunk has this part of a whole one, rounded up. Fewer items than one need no thread.
        used: Notes which threads process chunks.
        on_end: Ends what ``function`` waits for, such as requests, so that it raises :class:`EndedError`. Called at
            the end, before the threads are waited for, and by :func:`end_waits`.
    """
    remaining = iter(items)
    small = -(-chunk // parts)
    sizes = itertools.chain(itertools.repeat(small, 2 * workers), itertools.repeat(chunk))
    waiting: deque[_Chunk[Item, Result]] = deque()
    pool: _Pool[Item, Result] | None = None
    if on_end is not None:
        _waits.add(on_end)
    try:
        batch = list(itertools.islice(remaining, next(sizes)))
        if len(batch) < small:  # the only chunk: a thread pool takes a while to import and would gain nothing
            yield from function(batch)
            return
        pool = _Pool(function, workers, used or Workers(workers))
        while batch:
            waiting.append(pool.submit(batch))
            while waiting and (len(waiting) > 2 * workers or waiting[0].results.done()):
                yield from waiting.popleft().results.result()
            batch = list(itertools.islice(remaining, next(sizes)))
        rest: list[Item] = []
        while waiting and (unclaimed := waiting[-1].claim()):
            rest[:0] = unclaimed
            waiting.pop()
        waiting.extend(pool.submit(rest[start : start + small]) for start in range(0, len(rest), small))
        del rest  # items are freed as soon as they are used
        while waiting:
            yield from waiting.popleft().results.result()
    finally:
        if on_end is not None:
            _waits.discard(on_end)
            on_end()
        if pool is not None:
            pool.close()


class _Chunk(Generic[Item, Result]):
    """Items that one thread takes, and their results once there are any."""

    def __init__(self, items: list[Item], results: Future[list[Result]]) -> None:
        self._items = [items]
        self.results = results

    def claim(self) -> list[Item]:
        """Return the items to the first who asks; to others an empty list."""
        try:
            return self._items.pop()
        except IndexError:
            return []


class _Pool(Generic[Item, Result]):
    """Threads that process chunks. The calling thread processes those for which no thread can be started.

    Args:
        function: Processes a chunk.
        workers: The largest number of threads.
        used: Notes which threads process chunks.
    """

    def __init__(self, function: Callable[[list[Item]], list[Result]], workers: int, used: Workers) -> None:
        from concurrent.futures import Future, ThreadPoolExecutor

        self._function = function
        self._future = Future
        self._used = used
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="edgecnn")
        self._submitted = False  # whether at least one thread runs
        self._refused = False  # whether none can be started

    def submit(self, batch: list[Item]) -> _Chunk[Item, Result]:
        """Let a thread process a chunk of at least one item, as soon as one is free."""
        chunk: _Chunk[Item, Result] = _Chunk(batch, self._future())

        def process() -> None:
            if not (claimed := chunk.claim()):
                return
            self._used.add()
            try:
                chunk.results.set_result(self._function(claimed))
            except BaseException as error:
                chunk.results.set_exception(error)
                if not isinstance(error, Exception):  # Ctrl-C ends the calling thread at once
                    raise

        try:
            if not self._refused:
                self._threads.submit(process)
                self._submitted = True
                return chunk
        except RuntimeError:  # no further thread; the executor has queued the chunk, and a running thread may take it
            warn_once(TOO_FEW_THREADS)
            self._used.refuse()
            self._refused = not self._submitted
        process()
        return chunk

    def close(self) -> None:
        """Drop the chunks that have not started, and wait for the others."""
        self._threads.shutdown(wait=True, cancel_futures=True)
