"""The size and the colours of the pictures of a data set, read from the headers of its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def common_header(source: Source, cache: Path) -> Header:
    """Return the size to decode all pictures to, and whether all of them are grey.

    Args:
        source: The data set.
        cache: Folder in which the headers are remembered.

    Raises:
        DataError: the cache cannot be written.
    """
    files: list[Names] = []
    headers: set[Header] = set()
    for records in source.splits.values():
        if isinstance(records.pictures, np.ndarray):
            _, height, width, channels = records.pictures.shape
            headers.add(Header(width, height, channels == 1))
        else:
            files.append(records.pictures)
    if files:
        headers |= _distinct_headers(files, cache)
    grey = all(header.grey for header in headers)
    sizes = {(header.width, header.height) for header in headers}
    if len(sizes) == 1:
        [(width, height)] = sizes
        if max(width, height) <= MAX_NATIVE_SIDE:
            return Header(width, height, grey)
    return Header(MAX_NATIVE_SIDE, MAX_NATIVE_SIDE, grey)


def _distinct_headers(splits: Sequence[Names], cache: Path) -> set[Header]:
    """The different headers of the files. Files without a header are skipped: decoding reports why."""
    path = cache / f"headers-{decode_cache.key_of_set(chain.from_iterable(splits))}.json"
    known = load(path)
    if known is not None:
        decode_cache.mark_used(path)
        headers, unreadable = known
        # A change of permissions makes a file readable and leaves its modification time as it was.
        if not any(map(_header, unreadable)):
            return headers
    headers, unreadable = set(), []
    outcomes = closing(in_order(_header, chain.from_iterable(splits)))
    with progress("reading picture headers", sum(map(len, splits))) as advance, outcomes as found:
        for file, header in zip(chain.from_iterable(splits), found, strict=True):
            if header is None:
                unreadable.append(file)
            else:
                headers.add(header)
            advance(1)
    decode_cache.write_document(path, {"kinds": sorted(headers), "unreadable": unreadable})
    return headers


def load(path: Path) -> tuple[set[Header], list[str]] | None:
    """Return the headers and the unreadable files from a file of the cache, or None if it is missing or damaged."""
    try:
        document = json.loads(path.read_text("utf-8"))
        headers = {Header(int(width), int(height), bool(grey)) for width, height, grey in document["kinds"]}
        return headers, [str(file) for file in document["unreadable"]]
    except (OSError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _header(path: str) -> Header | None:
    try:
        return read_header(path)
    except PictureError:
        return None
