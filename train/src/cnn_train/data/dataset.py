"""From a source to arrays: sizes and colours are looked at, every file is decoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import progress
from cnn_infer.errors import PictureError
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import Header, read_header
from cnn_infer.spec import MAX_SIDE, Colour, Filter, Resize, Spec

from cnn_train.data import decode_cache
from cnn_train.data.decode import decoded, in_order
from cnn_train.data.lazy_names import Names
from cnn_train.data.placement import check_outside
from cnn_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_train.data.source import Records, Source

LARGEST_OWN_SIZE = 128
"""Pictures that are all of one size keep it up to this many pixels a side; others become squares of it."""


@dataclass(frozen=True)
class Split:
    """The pictures of one split that could be read.

    Attributes:
        images: uint8 (n, h, w, c), perhaps memory-mapped and read-only.
        labels: int64 (n,).
        names: Path of each picture, or ``test[17]`` where there are no files; what is not UTF-8 is escaped.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: Sequence[str]


@dataclass(frozen=True)
class Dataset:
    """Three splits, decoded.

    Attributes:
        source: What they were made from.
        train: What the network learns from.
        val: What decisions are taken on.
        test: What is touched once, at the end.
        height: Rows, in pixels.
        width: Columns, in pixels.
        colour: ``grey`` or ``rgb``.
        resize: How pictures of other sizes were made to fit.
        filter: The resampling filter.
        fingerprints: For each split SHA-256, hexadecimal, over the pictures that could be read: name below
            the source's location (or index), label, bytes of the file (or pixels). It does not depend on
            where the folder lies, on times, or on the size decoded to.
        unreadable: Path and reason of each picture that was left out.
    """

    source: Source
    train: Split
    val: Split
    test: Split
    height: int
    width: int
    colour: Colour
    resize: Resize
    filter: Filter
    fingerprints: Mapping[str, str]
    unreadable: Sequence[tuple[str, str]]

    @property
    def splits(self) -> Mapping[str, Split]:
        """``train``, ``val`` and ``test`` by name."""
        return {"train": self.train, "val": self.val, "test": self.test}


def prepare(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    resize: Resize = "crop",
    filter: Filter = "bilinear",  # noqa: A002
    colour: Colour | None = None,
    cache: str | os.PathLike[str] | None = None,
    strict: bool = False,
) -> Dataset:
    """Decode a source, or find it decoded in the cache.

    Files are decoded into memory-mapped arrays in the cache, a few at a time: memory does not grow with their
    number. They are decoded again when a file's name, size or time changes, or the way to pixels; what was not used
    for :data:`cnn_train.data.decode_cache.UNUSED_DAYS` days is removed.

    Args:
        source: From :func:`cnn_train.data.source.open_source`.
        size: Pixels a side, or (height, width). Default: the pictures' own size where they all have the same
            and no side exceeds :data:`LARGEST_OWN_SIZE`, else a square of that.
        resize: How pictures of other sizes are made to fit.
        filter: The resampling filter.
        colour: Default: grey where every picture is grey, else rgb.
        cache: Folder of the cache; default: ``pictures`` in :func:`cnn_train.data.decode_cache.user_cache`.
        strict: Make unreadable pictures an error.

    Raises:
        DataError: no picture of a class or of a split can be read, any cannot and ``strict`` is set, or the
            cache cannot be written or lies among the pictures.
        ConfigError: the size makes no sense.
    """
    folder = decode_cache.user_cache() / "pictures" if cache is None else Path(cache)
    check_outside(source, folder, "--cache")
    if size is None or colour is None:
        seen = _look(source, folder)
        size = size or (seen.height, seen.width)
        colour = colour or ("grey" if seen.grey else "rgb")
    spec = _spec(source.classes, size, colour, resize, filter)
    found = {name: _cached(source, name, spec, folder) for name in source.splits}
    decode_cache.remove_unused(folder)
    unreadable = [entry for name, split in found.items() for entry in _reasons(source.splits[name], split)]
    _check(source, found, unreadable, strict)
    splits = {name: _split(source.splits[name], name, split) for name, split in found.items()}
    return Dataset(
        source=source,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        height=spec.height,
        width=spec.width,
        colour=spec.colour,
        resize=resize,
        filter=filter,
        fingerprints={name: split.fingerprint for name, split in found.items()},
        unreadable=unreadable,
    )


def read_split(source: Source, name: str, spec: Spec) -> tuple[Split, str, Sequence[tuple[str, str]]]:
    """Decode one split anew from the files' bytes, without the cache, into memory.

    Args:
        source: Where the pictures are.
        name: ``train``, ``val`` or ``test``.
        spec: The way to pixels; its classes are not looked at.

    Returns:
        The split, its fingerprint (as in :class:`Dataset`), and path and reason of what could not be read.
    """
    records = source.splits[name]
    found = _in_memory(source, name, spec)
    return _split(records, name, found), found.fingerprint, _reasons(records, found)


def _spec(
    classes: tuple[str, ...], size: int | tuple[int, int], colour: Colour, resize: Resize, resampling: Filter
) -> Spec:
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ConfigError(f"the size must be from 1 to {MAX_SIDE} pixels a side, not {height} x {width}")
    return Spec(classes, height, width, colour, resize, resampling, zero_point=0, scale=1 / 255)


def _look(source: Source, folder: Path) -> Header:
    """The size to decode to and whether all is grey, from the headers of all pictures."""
    files: list[Names] = []
    kinds: set[Header] = set()
    for records in source.splits.values():
        if isinstance(records.pictures, np.ndarray):
            _, height, width, channels = records.pictures.shape
            kinds.add(Header(width, height, channels == 1))
        else:
            files.append(records.pictures)
    kinds |= _kinds_of(files, folder) if files else set()
    sizes = {(kind.width, kind.height) for kind in kinds}
    width, height = sizes.pop() if len(sizes) == 1 else (LARGEST_OWN_SIZE + 1, 0)
    if max(width, height) > LARGEST_OWN_SIZE:
        width = height = LARGEST_OWN_SIZE
    return Header(width, height, all(kind.grey for kind in kinds))


def _kinds_of(splits: Sequence[Names], folder: Path) -> set[Header]:
    """The different headers among the files; those without one are left to decoding, which says why."""
    path = folder / f"headers-{decode_cache.key_of_set(chain.from_iterable(splits))}.json"
    known = _known(path)
    # A file may have become readable without a change of its time
    if known is not None and not any(map(_header, known[1])):
        return known[0]
    kinds: set[Header] = set()
    unreadable: list[str] = []
    outcomes = closing(in_order(_header, chain.from_iterable(splits)))
    with progress("looking at pictures", sum(map(len, splits))) as advance, outcomes as headers:
        for file, header in zip(chain.from_iterable(splits), headers, strict=True):
            if header is None:
                unreadable.append(file)
            else:
                kinds.add(header)
            advance(1)
    decode_cache.store_summary(path, {"kinds": sorted(kinds), "unreadable": unreadable})
    return kinds


def _known(path: Path) -> tuple[set[Header], list[str]] | None:
    """What was seen when these files were looked at before: kinds, and files without one; None where it is damaged."""
    found = decode_cache.load_summary(path)
    if found is None:
        return None
    try:
        kinds = {Header(int(width), int(height), bool(grey)) for width, height, grey in found["kinds"]}
        return kinds, [str(file) for file in found["unreadable"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _header(path: str) -> Header | None:
    try:
        return read_header(path)
    except PictureError:
        return None


def _cached(source: Source, name: str, spec: Spec, folder: Path) -> decode_cache.Decoded:
    records = source.splits[name]
    if isinstance(records.pictures, np.ndarray):
        return _in_memory(source, name, spec)
    entry = folder / decode_cache.key(records.pictures, records.labels, spec)
    found = decode_cache.load(entry, len(records.labels), spec)
    if found is not None and not _readable_by_now(records, found, spec):
        return found
    outcomes = closing(decoded(records.pictures, spec))
    with progress(f"decoding {name}", len(records.labels)) as advance, outcomes as pictures:
        decode_cache.store(entry, pictures, _relative(source, name), records.labels, spec, advance)
    found = decode_cache.load(entry, len(records.labels), spec)
    if found is None:
        raise DataError(f"the picture cache {printable(entry)} cannot be read back: remove it, or use another --cache")
    return found


def _readable_by_now(records: Records, found: decode_cache.Decoded, spec: Spec) -> bool:
    """Whether a picture that the cache lacks can be read now: permissions change without a file's time."""
    left_out = [records.pictures[at] for at, _ in found.unreadable]
    return any(outcome.pixels is not None for outcome in decoded(left_out, spec))


def _in_memory(source: Source, name: str, spec: Spec) -> decode_cache.Decoded:
    records = source.splits[name]
    pictures = records.pictures
    if isinstance(pictures, np.ndarray) and pictures.shape[1:] == spec.shape:
        images, fits = pictures, True
    else:
        images, fits = np.empty((len(records.labels), *spec.shape), np.uint8), False
    positions = iter(range(len(images)))

    def take(pixels: NDArray[np.uint8]) -> None:
        if not fits:
            images[next(positions)] = pixels

    with progress(f"decoding {name}", len(records.labels)) as advance, closing(decoded(pictures, spec)) as outcomes:
        kept, unreadable, fingerprint = decode_cache.collect(
            outcomes, _relative(source, name), records.labels, take, advance
        )
    return decode_cache.Decoded(images[: len(kept)], kept, unreadable, fingerprint)


def _relative(source: Source, name: str) -> Callable[[int], str]:
    """What a picture is called wherever the data set lies: below its folder with slashes, or an index."""
    pictures = source.splits[name].pictures
    if isinstance(pictures, np.ndarray):
        return str
    start = len(os.path.join(source.location or "", ""))
    return lambda at: pictures[at][start:].replace(os.sep, "/")


def _split(records: Records, name: str, found: decode_cache.Decoded) -> Split:
    pictures = records.pictures

    def name_of(at: int) -> str:
        return f"{name}[{at}]" if isinstance(pictures, np.ndarray) else printable(pictures[at])

    return Split(found.images, records.labels[found.kept], Names(name_of, found.kept))


def _reasons(records: Records, found: decode_cache.Decoded) -> list[tuple[str, str]]:
    return [(str(records.pictures[at]), reason) for at, reason in found.unreadable]


def _check(
    source: Source, found: Mapping[str, decode_cache.Decoded], unreadable: Sequence[tuple[str, str]], strict: bool
) -> None:
    where = printable(source.location or source.name)
    if strict and unreadable:
        first = "; ".join(f"{printable(path)} ({reason})" for path, reason in unreadable[:3])
        more = f" and {len(unreadable) - 3:,} more" if len(unreadable) > 3 else ""
        raise DataError(f"{len(unreadable):,} unreadable pictures, and --strict is set: {first}{more}")
    for name, split in found.items():
        if not len(split.kept):
            raise DataError(f"{where}: no picture of the {name} split can be read: {split.unreadable[0][1]}")
    labels = source.splits["train"].labels[found["train"].kept]
    for label, count in enumerate(np.bincount(labels, minlength=len(source.classes))):
        if not count:
            raise DataError(f"{where}: no training picture of the class {source.classes[label]!r} can be read")
