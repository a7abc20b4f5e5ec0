"""URLs of objects as text. Nothing is imported or requested here: most runs have no URL."""

from __future__ import annotations

import re

from cnn_infer.errors import InputError

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "http": "aiohttp",
    "https": "aiohttp",
    "memory": "fsspec",
}
"""The protocols, and the package that fsspec needs for each. ``file`` is a path of this machine and needs none.

All others are refused: some read what a file names (``reference``), open a shell on another machine (``ssh``), or run a
service's own client (``github``, ``dask``).
"""

ARCHIVES = ("zip", "tar")
"""Protocols that lead into an archive: ``zip://cat::s3://bucket/photos.zip`` is ``s3://bucket/photos.zip/cat``."""

# two characters at least, because C://photos is a folder of Windows; chains of protocols are URLs that are refused
_URL = r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*://"
_CREDENTIALS = r"(?<=://)[^/@]*@"


def is_url(path: object) -> bool:
    """Whether a path is a URL: a text that starts with a protocol and ``://``. Write ``./a://b`` for such a folder."""
    return isinstance(path, str) and "://" in path and re.match(_URL, path) is not None


def protocol_of(url: str) -> str:
    """Return the protocol of a URL in lower case: ``s3``."""
    return url.partition("://")[0].lower()


def is_web(url: str) -> bool:
    """Whether a URL is that of a web server."""
    return protocol_of(url) in ("http", "https")


def resolved(path: str) -> str:
    """Return the form of a path with which everything else works.

    ``file:///photos/1.jpg`` becomes the path ``/photos/1.jpg``, and ``zip://cat::s3://bucket/photos.zip`` becomes
    ``s3://bucket/photos.zip/cat``. A path that is no URL is returned unchanged.

    Raises:
        InputError: the protocol is not supported.
    """
    if not is_url(path):
        return path
    protocol, _, rest = path.partition("://")
    protocol = protocol.lower()
    if protocol in ARCHIVES:
        inner, chained, outer = rest.partition("::")
        if not chained:
            raise InputError(f"{protocol}:// leads into an archive: name it, as in {protocol}://cat::s3://bucket/a.zip")
        outer = resolved(outer)
        if not outer.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
            raise InputError(f"not the name of an archive (.zip, .tar, .tar.gz, .tgz): {shown(outer)}")
        return f"{outer}/{inner}".rstrip("/")
    if protocol == "file":
        from urllib.request import url2pathname

        return url2pathname(rest.removeprefix("localhost"))
    if protocol not in PACKAGES or "::" in rest:
        known = ", ".join(["file", *PACKAGES, *ARCHIVES])
        raise InputError(f"unsupported protocol in {shown(path)}: one of {known}; copy other files to this machine")
    return f"{protocol}://{rest}"


def joined(folder: str, name: str) -> str:
    """Return the URL of an object in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def shown(url: str) -> str:
    """Return a URL for people and logs: without user name and password and, for web servers, without the query.

    The query of a presigned URL is a credential.
    """
    url = re.sub(_CREDENTIALS, "", url)
    return re.split("[?#]", url, maxsplit=1)[0] if is_web(url) else url
