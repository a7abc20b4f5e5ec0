"""Names of files and folders: as printable text, and as names that every operating system accepts."""

from __future__ import annotations

import os
from pathlib import Path

_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def parent_name(path: str) -> str:
    """Return the name of the folder that contains a file. Relative paths are resolved where needed."""
    return os.path.basename(os.path.dirname(path)) or Path(path).resolve().parent.name


def printable(path: str | os.PathLike[str]) -> str:
    """Return the path as valid Unicode text: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def folder_name(text: str) -> str:
    """Return ``text`` as a valid folder name on Linux, macOS and Windows: ``T-shirt/top`` becomes ``T-shirt-top``."""
    safe = "".join("-" if c in _FORBIDDEN or not c.isprintable() else c for c in text).strip(" ").rstrip(". ")
    if not safe or safe.startswith(".") or safe.split(".")[0].strip().lower() in _RESERVED:
        return f"_{safe}"
    return safe
