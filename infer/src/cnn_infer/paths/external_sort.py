"""External sorting: sorted runs in a temporary file, merged while they are read.

It bounds the memory for folders of millions of files. Knuth, The Art of Computer Programming, volume 3, section 5.4,
"External Sorting".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import IO

from cnn_infer.paths.scratch import append, temporary_file

RUN = 5_000
"""Items in memory at once. Fewer items are sorted without a temporary file."""

_BLOCK = 4096  # bytes


def in_sorted_order(items: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    """Return the items in sorted order, compared as bytes. All items are read before this returns.

    Args:
        items: Any number of items.
        separator: One byte that no item contains.

    Raises:
        InputError: the temporary file cannot be written, for example because the disk is full.
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
    """Yield the items of one run, which is in the file from ``start`` to ``end``."""
    rest = b""
    while start < end:
        file.seek(start)
        block = file.read(min(_BLOCK, end - start))
        start += len(block)
        *whole, rest = (rest + block).split(separator)
        yield from whole
