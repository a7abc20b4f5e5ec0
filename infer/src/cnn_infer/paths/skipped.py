"""What a search for pictures leaves out: names that are never searched, and the count of all other entries."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping

from cnn_infer.errors import InputError
from cnn_infer.pixels.open import KINDS

SYSTEM_NAMES = frozenset(
    [
        "$recycle.bin",  # Windows
        "desktop.ini",
        "ehthumbs.db",
        "system volume information",
        "thumbs.db",
        "__macosx",  # archives made on macOS
        "icon\r",
        "lost+found",  # Linux
        "lost.dir",  # Android
        "#recycle",  # network storage
        "#snapshot",
        "@eadir",
        "@recycle",
        "@tmp",
        "__pycache__",  # Python
    ]
)
"""Files and folders that systems and tools create, in lower case. ``.ipynb_checkpoints`` and the like are hidden."""

LINK = "link to a folder"
NO_EXTENSION = "no extension"
OTHER = "other"

_MOST_KINDS = 100  # so that memory stays bounded with names such as scan.0001, scan.0002
_MOST_PRINTED = 5


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden or has one of :data:`SYSTEM_NAMES`: it is never a class and never searched."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


class Skipped:
    """Counts of files and links that a search left out. Hidden files and :data:`SYSTEM_NAMES` are not counted.

    Attributes:
        counts: Number of entries by kind: :data:`LINK`, an extension such as ``.txt``, or :data:`NO_EXTENSION`.
            After 100 kinds, further ones count as :data:`OTHER`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add_link(self) -> None:
        """Count a symbolic link to a folder that was not followed."""
        self.counts[LINK] += 1

    def add_file(self, name: str) -> None:
        """Count a file, or another entry that is not a folder, by the extension of its name."""
        kind = os.path.splitext(name)[1].lower().encode("utf-8", "backslashreplace").decode() or NO_EXTENSION
        self.counts[kind if kind in self.counts or len(self.counts) < _MOST_KINDS else OTHER] += 1


def no_pictures(counts: Mapping[str, int]) -> InputError:
    """Return the error of a search that found no picture; ``counts`` are those of :class:`Skipped`."""
    text = skipped_text(counts)
    left_out = f"; left out: {text}" if text else ""
    return InputError(f"no pictures found: expected files or folders with {KINDS} files{left_out}")


def skipped_text(counts: Mapping[str, int]) -> str | None:
    """Return one line part such as ``12 files of other kinds (.txt 9, .mp4 3) and 1 link to a folder``, or None.

    Args:
        counts: As :attr:`Skipped.counts`.
    """
    from cnn_infer.console import quantity  # which a program that finds pictures need not load

    files = sorted(((kind, count) for kind, count in counts.items() if kind != LINK), key=lambda pair: -pair[1])
    parts = []
    if files:
        kinds = [f"{kind} {count:,}" for kind, count in files[:_MOST_PRINTED]]
        kinds += [quantity(len(files) - _MOST_PRINTED, "more kind")] if len(files) > _MOST_PRINTED else []
        parts.append(f"{quantity(sum(count for _, count in files), 'file')} of other kinds ({', '.join(kinds)})")
    if links := counts.get(LINK, 0):
        parts.append("1 link to a folder" if links == 1 else f"{links:,} links to folders")
    return " and ".join(parts) or None
