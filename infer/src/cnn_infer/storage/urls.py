"""URLs of objects as text. Nothing is imported or requested here: most runs have no URL."""

from __future__ import annotations

import os
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

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
"""Names of archives end like this, in upper or lower case."""

ARCHIVES = ("zip", "tar")
"""Protocols that lead into an archive: ``zip://cat::s3://bucket/photos.zip`` is ``s3://bucket/photos.zip/cat``."""

# two characters at least, because C://photos is a folder of Windows; chains of protocols are URLs that are refused
_URL = r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*://"
_NEXT_IN_CHAIN = r"::(?=[A-Za-z][A-Za-z0-9+.-]+://)"


def is_url(path: object) -> bool:
    """Whether a path is a URL: a text that starts with a protocol and ``://``. Write ``./a://b`` for such a folder."""
    return isinstance(path, str) and "://" in path and re.match(_URL, path) is not None


def was_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path to write to was a URL: ``pathlib`` turns ``s3://bucket/x`` into the path ``s3:/bucket/x``."""
    start, colon, _ = os.fspath(path).partition(":/")
    return bool(colon) and re.fullmatch("[A-Za-z][A-Za-z0-9+.-]+", start) is not None and not os.path.isdir(f"{start}:")


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
        InputError: the protocol is not supported, or the URL is not valid, for example because it names no bucket.
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
        if not outer.lower().endswith(ENDINGS):
            raise InputError(f"not the name of an archive ({', '.join(ENDINGS)}): {shown(outer)}")
        return f"{outer}/{inner}".rstrip("/")
    if protocol == "file":
        return _local_path(path)
    url = f"{protocol}://{rest}"
    check(url)
    return url


def check(url: str) -> None:
    """Check that a URL can be used: its protocol is in :data:`PACKAGES`, and it names a host or a bucket.

    Raises:
        InputError: it cannot.
    """
    protocol, _, rest = url.partition("://")
    if protocol.lower() not in PACKAGES or re.search(_NEXT_IN_CHAIN, rest):
        known = ", ".join(["file", *PACKAGES, *ARCHIVES])
        raise InputError(f"unsupported protocol in {shown(url)}: one of {known}; copy other files to this machine")
    if is_web(url):
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(url)
            named = bool(parts.hostname) and parts.port != 0
        except ValueError as error:  # for example of a port that is no number
            raise InputError(f"not a valid URL: {shown(url)}") from error
    else:
        named = bool(rest.strip("/") if protocol == "memory" else rest.partition("/")[0])
    if not named:
        raise InputError(f"not a valid URL, it names no host or bucket: {shown(url)}")


def _local_path(url: str) -> str:
    """The path of a URL of the protocol ``file``: https://www.rfc-editor.org/rfc/rfc8089."""
    from urllib.request import url2pathname

    host, slash, path = url.partition("://")[2].partition("/")
    if host.lower() not in ("", "localhost") or not slash:
        raise InputError(f"not a file of this machine: {shown(url)} (write file:///photos/1.jpg for /photos/1.jpg)")
    return url2pathname(f"/{path}")


def as_folder(url: str) -> str:
    """Return a URL with a slash at its end."""
    return f"{url.rstrip('/')}/"


def joined(folder: str, name: str) -> str:
    """Return the URL of an object in a folder."""
    return as_folder(folder) + name


def shown(url: str) -> str:
    """Return a URL for people and logs: without user name and password, and without the query of web servers.

    The query of a presigned URL is a credential, and that of an unsupported protocol may be one. Stores other than web
    servers keep a user name without a password: in ``abfs://container@account/`` it is the container.
    """
    links = []
    for link in re.split(_NEXT_IN_CHAIN, url):
        protocol, slashes, rest = link.partition("://")
        rest = _without_credentials(rest, is_web(link))
        has_secret_query = slashes and (is_web(link) or protocol.lower() not in (*PACKAGES, *ARCHIVES, "file"))
        kept = re.split("[?#]", rest, maxsplit=1)[0] if has_secret_query else rest
        links.append(protocol + slashes + kept)
        if kept != rest:
            break  # what follows may belong to the query
    return "::".join(links)


def _without_credentials(rest: str, web: bool) -> str:
    """What follows ``://``, without user name and password."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    if at and (web or ":" in user):
        return rest[len(user) + 1 :]
    _, colon, port = host.rpartition(":")
    if (
        colon and not port.isdigit() and not host.startswith("arn:") and not host.endswith("]")
    ):  # no port: a password with a slash, as those of S3
        return rest.rpartition("@")[2]
    return rest
