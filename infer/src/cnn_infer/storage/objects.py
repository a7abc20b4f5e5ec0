"""Single objects: read, write, look up and delete. An object is always written as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from cnn_infer.errors import InputError
from cnn_infer.storage.failures import StorageError, TooLargeError
from cnn_infer.storage.filesystem import connect
from cnn_infer.storage.requests import TIMEOUT, wait_for, with_retries
from cnn_infer.storage.urls import is_web, protocol_of, shown

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from fsspec import AbstractFileSystem

_BLOCK = 1 << 20  # bytes
RANGE = 8 << 20
"""Bytes of a request to a store other than S3 and web servers. Of an object with more, one is in memory at a time."""

_SLOWEST = 1 << 10  # bytes a second; a slower answer has failed after a minute
_TAGS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")


class Info(NamedTuple):
    """What a store says of an object or a folder.

    Attributes:
        folder: Whether it is a folder: a prefix with objects below.
        size: Bytes of the object; None if the store does not say.
        version: Changes when the object is replaced: its entity tag, or else the time; empty if unknown.
    """

    folder: bool
    size: int | None
    version: str


def version_of(details: dict[str, Any]) -> str:
    """Return :attr:`Info.version` from what fsspec says of an object."""
    return next((str(details[key]) for key in _TAGS if details.get(key)), "")


def look_up(url: str) -> Info | None:
    """Return what is at a URL; None if there is nothing.

    Raises:
        StorageError: the bucket does not exist, access is denied, or the store cannot be reached.
        InputError: as :func:`connect`.
    """
    connect(url)  # a missing package is reported before the loop of fsspec is needed
    return wait_for(find(url))


async def find(url: str) -> Info | None:
    """Return as :func:`look_up`; for the loop of fsspec."""
    system, path = connect(url)
    if is_web(url) and url.endswith("/"):
        return Info(True, None, "")

    async def attempt() -> Info:
        if is_web(url):
            return await _look_up_web(system, path)
        found = await call(system, "info", path)
        return Info(found["type"] == "directory", found.get("size"), version_of(found))

    try:
        return await with_retries(url, attempt)
    except StorageError as error:
        if error.missing and "bucket" not in error.reason:
            return None
        raise


async def _look_up_web(system: AbstractFileSystem, url: str) -> Info:
    """Send a GET request and read only the header of the answer: not every server knows HEAD."""
    async with await _get(system, url) as response:
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        return Info(str(response.url.path).endswith("/"), response.content_length, tag)


async def _get(system: AbstractFileSystem, url: str) -> ClientResponse:
    """Return the answer of a web server to a GET request when its header is complete."""
    session = await system.set_session()
    response: ClientResponse = await asyncio.wait_for(session.get(system.encode_url(url)), TIMEOUT)
    response.raise_for_status()
    return response


def exists(url: str) -> bool:
    """Whether there is an object or a folder at a URL. Raises as :func:`look_up`."""
    return look_up(url) is not None


def read(url: str, max_bytes: int) -> bytes:
    """Return the bytes of an object.

    Raises:
        StorageError: there is no such object, it is larger than ``max_bytes``, or the store failed.
        InputError: as :func:`connect`.
    """
    connect(url)  # a missing package is reported before the loop of fsspec is needed
    try:
        return wait_for(fetch(url, max_bytes))
    except TooLargeError as error:
        raise StorageError(url, f"it has more than {max_bytes:,} bytes") from error


def write(url: str, data: bytes) -> None:
    """Write a whole object. Readers see the old object or the new one, never a part.

    Raises:
        StorageError: access is denied, or the store failed.
        InputError: as :func:`connect`.
    """
    connect(url)
    wait_for(put(url, data))


async def put(url: str, data: bytes) -> None:
    """Write as :func:`write`; for the loop of fsspec."""
    system, path = connect(url)
    _check_can_write(url)
    await with_retries(url, lambda: call(system, "pipe_file", path, data))


def upload(file: str | os.PathLike[str], url: str) -> None:
    """Write a file as a whole object, in parts if it is large. Raises as :func:`write`."""
    system, path = connect(url)
    _check_can_write(url)
    wait_for(with_retries(url, lambda: call(system, "put_file", os.fspath(file), path)))


def download(url: str, stream: IO[bytes], advance: Callable[[int], None]) -> None:
    """Write the bytes of an object to a file, a block at a time.

    Args:
        url: The object.
        stream: A file, open for writing.
        advance: Called with the number of bytes written so far; less than before when an attempt is repeated.

    Raises:
        StorageError: as :func:`read`.
        OSError: the file cannot be written.
    """
    system, path = connect(url)
    failed: list[OSError] = []  # errors of the local disk: another attempt does not help

    async def attempt() -> None:
        try:
            stream.seek(0)
            stream.truncate()
        except OSError as error:
            failed.append(error)
            return
        async with aclosing(_blocks(system, url, path, None)) as blocks:
            async for block in blocks:
                try:
                    stream.write(block)
                    advance(stream.tell())
                except OSError as error:
                    failed.append(error)
                    return

    wait_for(with_retries(url, attempt))
    if failed:
        raise failed[0]


def delete(url: str) -> None:
    """Delete an object; do nothing if there is none. Raises as :func:`write`."""
    connect(url)
    wait_for(remove(url))


async def remove(url: str) -> None:
    """Delete as :func:`delete`; for the loop of fsspec."""
    system, path = connect(url)
    _check_can_write(url)
    try:
        await with_retries(url, lambda: call(system, "rm_file", path))
    except StorageError as error:
        if not error.missing:
            raise


async def fetch(url: str, max_bytes: int, reserve: Callable[[int], Awaitable[None]] | None = None) -> bytes:
    """Return the bytes of an object; for the loop of fsspec.

    Args:
        url: The object.
        max_bytes: A larger object is refused, where the store says its size before its first byte.
        reserve: Awaited with the number of bytes in memory so far, before they are read.

    Raises:
        StorageError: there is no such object, or the store failed.
        TooLargeError: it is larger than ``max_bytes``.
    """
    system, path = connect(url)

    async def attempt() -> bytes:
        data = bytearray()
        async with aclosing(_blocks(system, url, path, max_bytes, reserve)) as blocks:
            async for block in blocks:
                data += block
                if len(data) > max_bytes:
                    raise TooLargeError
        return bytes(data)

    return await with_retries(url, attempt)


async def call(system: AbstractFileSystem, name: str, *arguments: Any, **keywords: Any) -> Any:
    """Await a method of a file system of fsspec; one that is not asynchronous runs in a thread."""
    if system.async_impl:
        return await getattr(system, f"_{name}")(*arguments, **keywords)
    return await asyncio.to_thread(getattr(system, name), *arguments, **keywords)


async def _blocks(
    system: AbstractFileSystem,
    url: str,
    path: str,
    max_bytes: int | None,
    reserve: Callable[[int], Awaitable[None]] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of an object; the size is known before the first byte is read.

    It takes one request, from stores other than S3 and web servers one for the size and one for each :data:`RANGE`.
    """
    if protocol_of(url) in ("s3", "s3a"):
        bucket, key, version = system.split_path(path)
        which = {} if version is None else {"VersionId": version}
        answer = await system._call_s3("get_object", Bucket=bucket, Key=key, **which)
        async with answer["Body"] as body:
            async for block in _read(body.read, answer["ContentLength"], max_bytes, reserve):
                yield block
    elif is_web(url):
        async with await _get(system, path) as response:
            async for block in _read(response.content.read, response.content_length, max_bytes, reserve):
                yield block
    else:
        details = await call(system, "info", path)
        size = details.get("size")
        if max_bytes is not None and size is not None and size > max_bytes:
            raise TooLargeError
        if reserve is not None and size is not None:
            await reserve(size)
        if size is None or size <= RANGE:
            yield await call(system, "cat_file", path)
            return
        for start in range(0, size, RANGE):
            end = min(start + RANGE, size)
            block = await call(system, "cat_file", path, start=start, end=end)
            if len(block) != end - start:
                raise EOFError("the answer was cut off")
            yield block
        if version_of(await call(system, "info", path)) != version_of(details):
            raise EOFError("the object was replaced while it was read")


async def _read(
    read: Callable[[int], Awaitable[bytes]],
    length: int | None,
    max_bytes: int | None,
    reserve: Callable[[int], Awaitable[None]] | None,
) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of an answer whose header declares ``length`` bytes, or does not say."""
    if max_bytes is not None and length is not None and length > max_bytes:
        raise TooLargeError
    if reserve is not None and length is not None:
        await reserve(length)
    done, waited, clock = 0, 0.0, asyncio.get_running_loop().time
    while True:
        begin = clock()
        block = await read(_BLOCK)
        waited += clock() - begin  # without the time in which the caller uses a block
        if not block:
            break
        done += len(block)
        if waited > 2 * TIMEOUT + done / _SLOWEST:
            raise TimeoutError
        if reserve is not None and length is None:
            await reserve(done)
        yield block
    if length is not None and done < length:
        raise EOFError("the answer was cut off")


def _check_can_write(url: str) -> None:
    if is_web(url):
        raise InputError(f"a web server can only be read: {shown(url)}")
