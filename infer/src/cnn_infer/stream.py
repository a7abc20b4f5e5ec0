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
    used: Workers | None = None,
    on_end: Callable[[], None] | None = None,
) -> Generator[Result, None, None]:
    """Yield the results of ``function`` in the order of ``items``.

    A thread processes a whole chunk, so threads exchange nothing for each item. At most ``2 * workers + 1`` chunks
    are in memory, however many items there are. Closing the generator early drops the chunks that have not started.
    If the system refuses to start a thread, the calling thread processes chunks too, and one warning is logged.

    Args:
        function: Takes at most ``chunk`` items and returns one result for each.
        items: Read only as far as results are needed.
        chunk: Items for each call of ``function``, at least 1.
        workers: Threads, at least 1.
        used: Notes which threads process chunks.
        on_end: Ends what ``function`` waits for, such as requests, so that it raises :class:`EndedError`. Called at
            the end, before the threads are waited for, and by :func:`end_waits`.
    """
    remaining = iter(items)
    waiting: deque[Future[list[Result]]] = deque()
    pool: _Pool[Item, Result] | None = None
    if on_end is not None:
        _waits.add(on_end)
    try:
        batch = list(itertools.islice(remaining, chunk))
        if len(batch) < chunk:  # the only chunk: a thread pool takes a while to import and would gain nothing
            yield from function(batch)
            return
        pool = _Pool(function, workers, used or Workers(workers))
        while batch:
            waiting.append(pool.submit(batch))
            while waiting and (len(waiting) > 2 * workers or waiting[0].done()):
                yield from waiting.popleft().result()
            batch = list(itertools.islice(remaining, chunk))
        while waiting:
            yield from waiting.popleft().result()
    finally:
        if on_end is not None:
            _waits.discard(on_end)
            on_end()
        if pool is not None:
            pool.close()


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

    def submit(self, batch: list[Item]) -> Future[list[Result]]:
        """Return the future result of a chunk."""
        future: Future[list[Result]] = self._future()
        unclaimed = [batch]

        def process() -> None:
            try:
                claimed = unclaimed.pop()
            except IndexError:  # another thread has processed it
                return
            self._used.add()
            try:
                future.set_result(self._function(claimed))
            except BaseException as error:
                future.set_exception(error)
                if not isinstance(error, Exception):  # Ctrl-C ends the calling thread at once
                    raise

        try:
            if not self._refused:
                self._threads.submit(process)
                self._submitted = True
                return future
        except RuntimeError:  # no further thread; the executor has queued the chunk, and a running thread may take it
            warn_once(TOO_FEW_THREADS)
            self._used.refuse()
            self._refused = not self._submitted
        process()
        return future

    def close(self) -> None:
        """Drop the chunks that have not started, and wait for the others."""
        self._threads.shutdown(wait=True, cancel_futures=True)
