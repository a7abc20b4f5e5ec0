"""Folders of pictures: links, so that a small folder can stand in for a large one, and files that are not in memory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from cnn_infer import find_pictures


def picture_files(folder: str | os.PathLike[str]) -> list[str]:
    """The paths of the pictures below a folder, in sorted order. If it has none, exit."""
    found = list(find_pictures([folder]))
    if not found:
        sys.exit(f"{os.fspath(folder)} has no pictures")
    return found


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to the file ``source``, and create its folder if it is missing.

    It is a hard link, or a symbolic link if the two are on different disks.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        target.symlink_to(source.resolve())


def link_pictures(files: list[str], root: Path, count: int, folder: Path, *, copies: bool = False) -> list[str]:
    """Make ``count`` links to pictures, again and again until there are so many.

    Args:
        files: The paths of the pictures, at least one.
        root: A folder above all of them.
        count: Number of links.
        folder: Where they are made, in the same subfolders as below ``root``.
        copies: Make copies in place of links.

    Returns:
        The paths of the links.
    """
    made = []
    for number in range(count):
        source = Path(files[number % len(files)])
        target = folder / source.relative_to(root).parent / f"{number // len(files):04}-{source.name}"
        if copies:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        else:
            link(source, target)
        made.append(str(target))
    return made


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
