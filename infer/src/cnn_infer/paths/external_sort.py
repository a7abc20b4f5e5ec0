"""Sorting more than memory should hold: sorted runs on the disk, merged while they are read.

(Knuth, The Art of Computer Programming, volume 3, section 5.4, "External Sorting".)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import IO

from cnn_infer.paths.scratch import append, temporary_file

RUN = 5_000
"""Items that are held in memory at once. Fewer never touch the disk."""

_BLOCK = 4096


def in_sorted_order(items: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    """The items, sorted as bytes. All are read before this returns.

    Args:
        items: Any number.
        separator: One byte that is in none of them.

    Raises:
        InputError: there is no room for what memory does not hold.
    """
    remaining = iter(items)
    run = sorted(islice(remaining, RUN))
    if len(run) < RUN:
        return iter(run)
    file = temporary_file()
    ends = [0]
    while run:
        append(file, separator.join(run) + separator)
        ends.append(file.tell())
        run = sorted(islice(remaining, RUN))
    return heapq.merge(*(_read(file, *bounds, separator) for bounds in pairwise(ends)))


def _read(file: IO[bytes], start: int, end: int, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while start < end:
        file.seek(start)
        block = file.read(min(_BLOCK, end - start))
        start += len(block)
        *whole, rest = (rest + block).split(separator)
        yield from whole
