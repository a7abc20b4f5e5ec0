"""Text files that people write with any editor: UTF-8, or UTF-16 with a byte order mark as Windows saves it."""

from __future__ import annotations

from pathlib import Path

from cnn_infer.system.encoding import encoding_of


def read_text_file(path: Path) -> str:
    """Return the text of a file, without a byte order mark and with ``\\n`` at the ends of lines.

    Raises:
        OSError: the file cannot be read.
        UnicodeError: it is neither UTF-8 nor UTF-16 with a byte order mark.
    """
    return path.read_text(encoding_of(path))
