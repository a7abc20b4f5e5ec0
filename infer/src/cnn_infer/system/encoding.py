"""The encoding of text files that people write with any editor."""

from __future__ import annotations

import codecs
import os


def encoding_of(path: str | os.PathLike[str]) -> str:
    """Return ``utf-16`` for a file with its byte order mark, as Windows saves it, else UTF-8 (``utf-8-sig``).

    Both are codecs that leave a byte order mark out of the text.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        start = stream.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
