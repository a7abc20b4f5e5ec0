"""Requests in the thread of fsspec's event loop: start them, wait for them, and repeat those that may yet succeed."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeVar

from cnn_infer.storage.failures import failure, is_of_store, is_transient
from cnn_infer.storage.urls import as_folder, shown

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

IN_FLIGHT = 32
"""Most requests of one kind that are in flight at one time."""

ATTEMPTS = 5
"""How often a request is tried."""

FIRST_WAIT = 0.25
"""Mean seconds before the second attempt. Each further wait is twice as long: 3.75 seconds in all."""

TIMEOUT = 30
"""Seconds without an answer, or without a further byte, after which an attempt has failed, for S3 and web servers."""


def start(work: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Start a coroutine in the loop of fsspec, whose thread is a daemon: it does not keep the process from ending."""
    from fsspec.asyn import get_loop

    return asyncio.run_coroutine_threadsafe(work, get_loop())


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in the loop of fsspec and return its result. Ctrl-C cancels it."""
    future = start(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@lru_cache(maxsize=64)
def _announce(host: str, reason: str) -> None:
    """Log that a request is repeated: once for each reason of a host or a bucket."""
    _logger.warning("%s: %s; trying again", host, reason)


async def with_retries(url: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of ``attempt``; it is called up to :data:`ATTEMPTS` times, with growing random waits between.

    Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        url: The object or folder, for the error.
        attempt: Makes the request.

    Raises:
        StorageError: the last attempt failed, or one in a way that another would not change.
        Exception: what ``attempt`` raised, if that is no error of a store; see
            :func:`cnn_infer.storage.failures.is_of_store`.
    """
    for number in range(1, ATTEMPTS + 1):
        try:
            return await attempt()
        except Exception as error:
            if not is_of_store(error):
                raise
            if number == ATTEMPTS or not is_transient(error):
                raise failure(url, error, number) from error
            _announce(shown(as_folder(url)).split("/")[2], failure(url, error, 1).reason)
        await asyncio.sleep(FIRST_WAIT * 2 ** (number - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("not reached")
