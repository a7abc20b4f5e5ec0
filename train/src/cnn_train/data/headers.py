"""The size and the colours of the pictures of a data set, read from the headers of its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import progress
from cnn_infer.errors import PictureError
from cnn_infer.pixels.convert import Header, read_header

from cnn_train.data import decode_cache
from cnn_train.data.decode import in_order

if TYPE_CHECKING:
    from cnn_train.data.lazy_names import Names
    from cnn_train.data.source import Source

MAX_NATIVE_SIDE = 128
"""Pictures that all have the same size keep it up to this many pixels a side; others become squares of this side."""


def headers_of(source: Source, cache: Path) -> Counter[Header]:
    """Return the headers of all pictures, each with the number of pictures that have it.

    Args:
        source: The data set.
        cache: Folder in which the headers of files are remembered.

    Raises:
        DataError: the cache cannot be written.
    """
    files: list[Names] = []
    headers: Counter[Header] = Counter()
    for records in source.splits.values():
        if isinstance(records.pictures, np.ndarray):
            count, height, width, channels = records.pictures.shape
            headers[Header(width, height, channels == 1)] += count
        else:
            files.append(records.pictures)
    if files:
        headers.update(_headers_of_files(files, cache))
    return headers


def common_header(headers: Mapping[Header, int]) -> Header:
    """Return the size to decode all pictures to, and whether all of them are grey."""
    grey = all(header.grey for header in headers)
    sizes = {(header.width, header.height) for header in headers}
    if len(sizes) == 1:
        [(width, height)] = sizes
        if max(width, height) <= MAX_NATIVE_SIDE:
            return Header(width, height, grey)
    return Header(MAX_NATIVE_SIDE, MAX_NATIVE_SIDE, grey)


def cropped_share(headers: Mapping[Header, int], height: int, width: int) -> float:
    """Return the share of the median picture, 0 to below 1, that is cut off where it is cropped to a shape.

    Args:
        headers: The pictures, from :func:`headers_of`.
        height: Rows of the network's input, in pixels.
        width: Columns of the network's input, in pixels.
    """
    if not headers:
        return 0.0
    ratios = [header.width * height / (header.height * width) for header in headers]
    shares = np.array([1 - min(ratio, 1 / ratio) for ratio in ratios])
    order = np.argsort(shares)
    numbers = np.cumsum(np.array(list(headers.values()))[order])
    return float(shares[order][np.searchsorted(numbers, numbers[-1] / 2)])


def _headers_of_files(splits: Sequence[Names], cache: Path) -> Counter[Header]:
    """The headers of the files. Files without a header are skipped: decoding reports why."""
    path = cache / f"headers-{decode_cache.key_of_set(chain.from_iterable(splits))}.json"
    known = load(path)
    if known is not None and all(known[0].values()):  # earlier versions did not store the numbers
        decode_cache.mark_used(path)
        headers, unreadable = known
        # A change of permissions makes a file readable and leaves its modification time as it was.
        if not any(map(_header, unreadable)):
            return headers
    headers, unreadable = Counter(), []
    outcomes = closing(in_order(_header, chain.from_iterable(splits)))
    with progress("reading picture headers", sum(map(len, splits))) as advance, outcomes as found:
        for file, header in zip(chain.from_iterable(splits), found, strict=True):
            if header is None:
                unreadable.append(file)
            else:
                headers[header] += 1
            advance(1)
    decode_cache.write_document(
        path, {"kinds": [[*header, count] for header, count in sorted(headers.items())], "unreadable": unreadable}
    )
    return headers


def load(path: Path) -> tuple[Counter[Header], list[str]] | None:
    """Return the headers and the unreadable files from a file of the cache, or None if it is missing or damaged.

    The number of pictures with a header is 0 if the file is of an earlier version, which did not store it.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        headers: Counter[Header] = Counter()
        for width, height, grey, *count in document["kinds"]:
            headers[Header(int(width), int(height), bool(grey))] = int(count[0]) if count else 0
        return headers, [str(file) for file in document["unreadable"]]
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _header(path: str) -> Header | None:
    try:
        return read_header(path)
    except PictureError:
        return None
