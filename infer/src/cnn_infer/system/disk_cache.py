"""Ask the kernel to read files from the disk before they are needed, so that threads do not wait for the disk.

See posix_fadvise(2), POSIX_FADV_WILLNEED. It has no effect on systems without that call, such as macOS and Windows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_INTERVAL = 32
"""Items from one look at the kernel's counter to the next."""


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; while files come from the disk, ask the kernel to read each path that passes.

    The consumer's distance to the item in use bounds the number of files that are read ahead. Files in memory cost
    nothing: the kernel counts the blocks that this process reads from disks (getrusage(2), ``ru_inblock``), and nothing
    is asked for until that number grows.

    Args:
        items: Paths of files, which need not exist, and any other objects.
    """
    if not hasattr(os, "posix_fadvise"):
        yield from items
        return
    import resource  # Windows does not have it

    blocks, from_disk = resource.getrusage(resource.RUSAGE_SELF).ru_inblock, False
    for number, item in enumerate(items):
        if number % _INTERVAL == 0:
            before, blocks = blocks, resource.getrusage(resource.RUSAGE_SELF).ru_inblock
            from_disk = blocks > before
        if from_disk and isinstance(item, (str, os.PathLike)):
            _start_reading(item)
        yield item


def _start_reading(path: str | os.PathLike[str]) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):  # whoever reads it reports the error
        return
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
    except OSError:  # a pipe
        pass
    finally:
        os.close(descriptor)
