"""Names of files and folders: as text that any stream can hold, and as a name that any system accepts."""

from __future__ import annotations

import os
from pathlib import Path

_FORBIDDEN = set('<>:"/\\|?*')
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def parent_name(path: str) -> str:
    """The name of the folder that a file lies in, also for a bare or relative name."""
    return os.path.basename(os.path.dirname(path)) or Path(path).resolve().parent.name


def printable(path: str | os.PathLike[str]) -> str:
    """The path as text that any stream can hold: bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def folder_name(text: str) -> str:
    """``text`` as a folder may be called on Linux, macOS and Windows: ``T-shirt/top`` becomes ``T-shirt-top``."""
    safe = "".join("-" if c in _FORBIDDEN or not c.isprintable() else c for c in text).strip(" ").rstrip(". ")
    if not safe or safe.startswith(".") or safe.split(".")[0].strip().lower() in _RESERVED:
        return f"_{safe}"
    return safe
