"""Text files that people write with any editor: UTF-8, or UTF-16 with a byte order mark as Windows saves it."""

from __future__ import annotations

import codecs
from pathlib import Path


def read_text_file(path: Path) -> str:
    """Return the text of a file, without a byte order mark and with ``\\n`` at the ends of lines.

    Raises:
        OSError: the file cannot be read.
        UnicodeError: it is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    with path.open("rb") as stream:
        start = stream.read(2)
    return path.read_text("utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
