"""The file system of fsspec for a URL."""

from __future__ import annotations

import configparser
from typing import TYPE_CHECKING, Any

from cnn_infer.errors import InputError
from cnn_infer.storage.requests import TIMEOUT
from cnn_infer.storage.urls import PACKAGES, check, protocol_of, shown

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_FILES = "the files in FSSPEC_CONFIG_DIR or ~/.config/fsspec"
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
    except (ValueError, TypeError, OSError, configparser.Error) as error:
        raise InputError(f"fsspec cannot read its configuration ({type(error).__name__}): correct {_FILES}") from error
    try:
        kind = fsspec.get_filesystem_class(protocol)  # url_to_fs() would split http://[::1]/1.jpg at the colons
        system = kind(**{**kind._get_kwargs_from_urls(url), **_options(protocol)})
        path = kind._strip_protocol(url)
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
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        limits = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "max_pool_connections": 64}
        retries = {"retries": {"total_max_attempts": 1}}
        options["config_kwargs"] = {**_given(protocol, "config_kwargs"), **limits, **retries}
    elif protocol in ("http", "https"):
        import aiohttp

        own = _given(protocol, "client_kwargs")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        headers = {**own.get("headers", {}), "Accept-Encoding": "identity"}
        options["client_kwargs"] = {"trust_env": True, **own, "timeout": timeout, "headers": headers}
    return options


def _given(protocol: str, name: str) -> dict[str, Any]:
    """An option of fsspec's configuration that is a table."""
    from fsspec.config import conf

    found = conf.get(protocol, {}).get(name, {})
    if not isinstance(found, dict):
        variable = f"FSSPEC_{protocol}_{name}".upper()
        raise InputError(f"the option {name} of {protocol}:// is no JSON object: correct {variable}, or {_FILES}")
    return found
