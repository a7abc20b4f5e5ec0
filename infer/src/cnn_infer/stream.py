"""Work on many items with several threads: results in order, a few chunks in memory at a time."""

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
    """The results of ``function``, called with ``chunk`` items at a time in ``workers`` threads.

    Every thread takes a whole chunk, so nothing is handed between threads for each item, and only a few chunks are
    in memory, however many items there are. Whoever stops early (Ctrl-C) closes the generator: what has not begun
    is dropped then.
    """
    remaining = iter(items)
    batch = list(itertools.islice(remaining, chunk))
    if len(batch) < chunk:  # there is no other: threads, which take a while to load, would gain nothing
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
