"""Many requests to a store at once, for the folder of a job that is a URL: one after the other they take hours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cnn_infer.storage.objects import put
from cnn_infer.storage.requests import IN_FLIGHT, start

if TYPE_CHECKING:
    from concurrent.futures import Future

Result = TypeVar("Result")


def in_flight(requests: Iterable[Coroutine[Any, Any, Result]]) -> Iterator[Result]:
    """Yield the results of requests in their order. Raises what a request raises, and cancels the others."""
    waiting: deque[Future[Result]] = deque()
    try:
        for request in requests:
            waiting.append(start(request))
            if len(waiting) == IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def writer() -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function that writes whole objects; all are written at the end of the block.

    Raises:
        StorageError: access is denied, or the store failed; from the function, for this object or an earlier one.
    """
    waiting: deque[Future[None]] = deque()

    def write(url: str, data: bytes) -> None:
        waiting.append(start(put(url, data)))
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().result()

    try:
        yield write
        while waiting:
            waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
