"""Names of files and folders: as printable text, and as names that every operating system accepts."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from cnn_infer.errors import PictureError
from cnn_infer.storage.urls import is_url, is_web, shown
from cnn_infer.system.names import as_text

_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def parent_name(path: str) -> str:
    """Return the name of the folder that contains a file. Relative paths are resolved where needed.

    At a URL a bucket is such a folder, the host of a web server is none: the name is then empty.
    """
    if is_url(path):
        root, *above = shown(path).partition("://")[2].split("/")[:-1] or [""]
        return above[-1] if above else "" if is_web(path) else root
    return os.path.basename(os.path.dirname(path)) or Path(path).resolve().parent.name


def printable(path: str | os.PathLike[str]) -> str:
    """Return the path as valid Unicode text: bytes that are not UTF-8 become backslash escapes.

    A URL loses what may be a credential; see :func:`cnn_infer.storage.urls.shown`.
    """
    text = as_text(os.fsdecode(path), "backslashreplace")
    if is_url(text):
        text = shown(text)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def composed(text: str) -> str:
    """Return ``text`` in Unicode's composed form (NFC), in which names are compared.

    macOS may write a letter with an accent as two characters (NFD). Both forms look the same.
    """
    return unicodedata.normalize("NFC", text)


def folder_name(text: str) -> str:
    """Return ``text`` as a valid folder name on Linux, macOS and Windows: ``T-shirt/top`` becomes ``T-shirt-top``.

    The result is :func:`composed`.
    """
    text = composed(as_text(text))
    safe = "".join("-" if c in _FORBIDDEN or not c.isprintable() else c for c in text).strip(" ").rstrip(". ")
    if not safe or safe.startswith(".") or safe.split(".")[0].strip().lower() in _RESERVED:
        return f"_{safe}"
    return safe


def path_of(picture: object) -> str | os.PathLike[str] | None:
    """Return a picture that was passed as a path; None for pixels and bytes."""
    return picture if isinstance(picture, (str, os.PathLike)) else None


def located(error: PictureError, path: str | os.PathLike[str] | None) -> PictureError:
    """Return the error with the picture's path before its text; the error itself without a path."""
    return error if path is None else PictureError(f"{printable(path)}: {error}")
