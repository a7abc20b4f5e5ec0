"""Process a stream of items with several threads: results in order, a few chunks in memory at a time."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[list[Item]], list[Result]], items: Iterable[Item], *, chunk: int, workers: int
) -> Generator[Result, None, None]:
    """Yield the results of ``function`` in the order of ``items``.

    A thread processes a whole chunk, so threads exchange nothing for each item. At most ``2 * workers + 1`` chunks
    are in memory, however many items there are. Closing the generator early drops the chunks that have not started.

    Args:
        function: Takes at most ``chunk`` items and returns one result for each.
        items: Read only as far as results are needed.
        chunk: Items for each call of ``function``, at least 1.
        workers: Threads, at least 1.
    """
    remaining = iter(items)
    batch = list(itertools.islice(remaining, chunk))
    if len(batch) < chunk:  # the only chunk: a thread pool takes a while to import and would gain nothing
        yield from function(batch)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[list[Result]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgecnn")
    try:
        while batch:
            waiting.append(pool.submit(function, batch))
            while waiting and (len(waiting) > 2 * workers or waiting[0].done()):
                yield from waiting.popleft().result()
            batch = list(itertools.islice(remaining, chunk))
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
