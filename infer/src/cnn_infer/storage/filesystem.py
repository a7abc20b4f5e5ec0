"""The file system of fsspec for a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnn_infer.errors import InputError
from cnn_infer.storage.requests import TIMEOUT
from cnn_infer.storage.urls import PACKAGES, check, protocol_of, shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INSTALL = "pip install 'cnn-infer[storage]'"


def connect(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL and the path in it. No request is sent yet.

    Credentials and other options come from where fsspec and the client of the store look for them: the environment and
    their configuration files.

    Args:
        url: A URL of a protocol in :data:`cnn_infer.storage.urls.PACKAGES`.

    Raises:
        InputError: the URL is not valid, a package is not installed, or the options are wrong.
    """
    check(url)
    protocol = protocol_of(url)
    package = PACKAGES[protocol]
    try:
        import fsspec
    except ImportError as error:
        raise InputError(f"URLs such as {shown(url)} need the package fsspec: {INSTALL}") from error
    try:
        system, path = fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        command = INSTALL if package in ("s3fs", "aiohttp") else f"pip install {package}"
        raise InputError(f"{protocol}:// needs the package {package}: {command}") from error
    except (TypeError, ValueError, KeyError, OSError) as error:
        raise InputError(f"{protocol}:// does not work with its options ({type(error).__name__})") from error
    if protocol in ("s3", "s3a"):
        system.retries = 1  # with_retries() repeats requests
    return system, str(path)


def _options(protocol: str) -> dict[str, Any]:
    """The options that bound memory and waiting; :func:`with_retries` is the only place that repeats requests.

    They are added to those of fsspec's configuration, which would be replaced otherwise.
    """
    from fsspec.config import conf

    options: dict[str, Any] = {"use_listings_cache": False}
    given = conf.get(protocol, {})
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "max_pool_connections": 64}
        retries = {"retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = {**given.get("config_kwargs", {}), **limits, **retries}
    elif protocol in ("http", "https"):
        import aiohttp

        own = given.get("client_kwargs", {})
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        headers = {**own.get("headers", {}), "Accept-Encoding": "identity"}
        options["client_kwargs"] = {**own, "timeout": timeout, "headers": headers}
    return options
