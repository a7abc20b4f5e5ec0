"""Links to pictures, so that a small folder can stand in for a large one."""

from __future__ import annotations

from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to the file ``source``, and create its folder if it is missing.

    It is a hard link, or a symbolic link if the two are on different disks.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        target.symlink_to(source.resolve())
