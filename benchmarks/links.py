"""Links to pictures, so that a small folder can stand in for a large one; and folders that are not in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
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


def evict(paths: Iterable[str]) -> None:
    """Take files out of the kernel's page cache, so that the next reader gets them from the disk.

    The kernel keeps what it knows of folders and of the files' places on the disk. It cannot evict files of a file
    system in memory, such as tmpfs.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the kernel keeps what is not written yet
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
