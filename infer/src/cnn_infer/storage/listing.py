"""What is directly in a folder of a store, as it is listed: a page in memory at a time where the store has pages."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urljoin

from cnn_infer.storage.failures import StorageError, TooLargeError
from cnn_infer.storage.filesystem import connect
from cnn_infer.storage.objects import call, fetch, version_of
from cnn_infer.storage.requests import start, wait_for, with_retries
from cnn_infer.storage.urls import as_folder, is_web, protocol_of

if TYPE_CHECKING:
    from concurrent.futures import Future

    from fsspec import AbstractFileSystem

_UNORDERED = "--x-s3"  # at the end of the names of S3's directory buckets, which are not listed in the order of keys


PAGE_BYTES = 64 << 20
"""Most bytes of a page with which a web server shows a folder."""


class Entry(NamedTuple):
    """An object or a folder in a folder.

    Attributes:
        name: Its name in the folder; empty for the folder's own marker, an object whose key ends with a slash.
        folder: Whether it is a folder.
        size: Bytes of the object; None if the store does not say.
        version: As :attr:`cnn_infer.storage.objects.Info.version`.
        link: The last part of its URL, if that is not the name: web servers escape some characters.
    """

    name: str
    folder: bool
    size: int | None = None
    version: str = ""
    link: str | None = None


def is_in_order(url: str) -> bool:
    """Whether :func:`entries` yields the entries in the order of their names as bytes, a folder as ``name/``."""
    bucket = url.partition("://")[2].partition("/")[0]
    return protocol_of(url) in ("s3", "s3a") and not bucket.endswith(_UNORDERED)


def entries(url: str) -> Iterator[Entry]:
    """Yield what is directly in a folder. The next page is requested while one is used.

    Args:
        url: The folder, or a bucket.

    Raises:
        StorageError: there is no such bucket, access is denied, or the store failed.
        InputError: as :func:`cnn_infer.storage.filesystem.connect`.
    """
    url = as_folder(url)
    system, path = connect(url)
    if protocol_of(url) in ("s3", "s3a"):
        yield from _pages(system, url, path)
        return
    if is_web(url):
        for link in _links(url):
            if (linked := _web_entry(link, url)) is not None:
                yield linked
        return
    for found in wait_for(with_retries(url, lambda: call(system, "ls", path, detail=True))):
        if found["name"].strip("/") != path.strip("/"):  # an object is listed as itself
            yield _entry(found)


class _Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.found: dict[str, None] = {}  # in order, each once

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if tag == "a" and name == "href" and value:
                try:
                    self.found[urljoin(self._url, value)] = None
                except ValueError:
                    continue  # no address, such as http://[


def _links(url: str) -> Iterator[str]:
    """Yield the addresses to which the page of a folder leads."""
    try:
        page = wait_for(fetch(url, PAGE_BYTES))
    except TooLargeError as error:
        raise StorageError(url, f"the page of the folder has more than {PAGE_BYTES >> 20} MB") from error
    links = _Links(url)
    links.feed(page.decode("utf-8", "ignore"))
    yield from links.found


def _entry(found: dict[str, Any]) -> Entry:
    name = found["name"].rstrip("/").rpartition("/")[2]
    return Entry(name, found["type"] == "directory", found.get("size"), version_of(found))


def _web_entry(link: str, url: str) -> Entry | None:
    """A link on the page of a folder; None if it does not lead to a file or folder directly below."""
    rest = link.removeprefix(url)
    if rest == link or not rest.rstrip("/") or "/" in rest.rstrip("/") or "?" in rest or "#" in rest:
        return None
    return Entry(unquote(rest.rstrip("/")), rest.endswith("/"), link=rest.rstrip("/"))


def _pages(system: AbstractFileSystem, url: str, path: str) -> Iterator[Entry]:
    """The pages of ListObjectsV2, https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html."""
    bucket, key, _ = system.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""

    def request(token: str | None) -> Future[dict[str, Any]]:
        following = {} if token is None else {"ContinuationToken": token}
        arguments = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", **following}
        return start(with_retries(url, lambda: system._call_s3("list_objects_v2", **arguments)))

    page: Future[dict[str, Any]] | None = request(None)
    while page is not None:
        found = page.result()
        page = request(found["NextContinuationToken"]) if found.get("IsTruncated") else None
        both = [*found.get("CommonPrefixes", []), *found.get("Contents", [])]
        both.sort(key=lambda item: (item.get("Prefix") or item["Key"]).encode())
        for item in both:
            if "Prefix" in item:
                yield Entry(item["Prefix"][len(prefix) : -1], True)
            else:
                yield Entry(item["Key"][len(prefix) :], False, item["Size"], version_of(item))
