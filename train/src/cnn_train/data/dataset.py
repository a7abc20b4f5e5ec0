"""From a source to arrays of pixels: every file is decoded once, and its pixels come from the cache from then on."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import progress
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import Header
from cnn_infer.spec import MAX_SIDE, Colour, Filter, Resize, Spec

from cnn_train.data import decode_cache
from cnn_train.data.cache_cleanup import remove_unused
from cnn_train.data.decode import decoded
from cnn_train.data.headers import common_header, cropped_share, headers_of
from cnn_train.data.lazy_names import Names
from cnn_train.data.output_guard import check_outside
from cnn_train.data.user_cache import user_cache
from cnn_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_train.data.decode_cache import DecodedSplit
    from cnn_train.data.source import Source
    from cnn_train.data.tree import Records


@dataclass(frozen=True)
class Split:
    """The readable pictures of one split.

    Attributes:
        images: uint8 (n, h, w, c), possibly memory-mapped and read-only.
        labels: int64 (n,), class indices.
        names: The path of each picture, or ``test[17]`` if there are no files. Bytes that are not UTF-8 are escaped.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: Sequence[str]


@dataclass(frozen=True)
class Dataset:
    """Three decoded splits.

    Attributes:
        source: The data set that they were decoded from.
        train: The pictures that the network learns from.
        val: The pictures that decide between epochs and settings.
        test: The pictures that measure the finished network, used once.
        height: Rows, in pixels.
        width: Columns, in pixels.
        colour: ``grey`` or ``rgb``.
        resize: How pictures of other sizes were made to fit.
        filter: The resampling filter.
        fingerprints: For each split the SHA-256, hexadecimal, of the readable pictures: path below the data set's
            folder (or index), label, and bytes of the file (or pixels). It does not depend on where the folder is,
            on modification times, or on the size that was decoded to.
        unreadable: Path and reason of each picture that was left out.
        cropped: Share of the median picture that ``crop`` cuts off, 0 to below 1; 0 with another way of resizing, and
            if size and colours were given, because the headers of the pictures are not read then.
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
    cropped: float

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
    """Decode a data set, or load it from the cache if it was decoded before.

    Files are decoded into memory-mapped arrays in the cache, a few at a time, so memory does not grow with their
    number. They are decoded again when the name, size or modification time of a file changes, or the way from files
    to pixels. What was not used for :data:`cnn_train.data.cache_cleanup.UNUSED_DAYS` days is removed from the cache.

    Args:
        source: From :func:`cnn_train.data.source.open_source`.
        size: Side of a square in pixels, or (height, width). Default: the size of the pictures if all have the same
            and no side exceeds :data:`cnn_train.data.headers.MAX_NATIVE_SIDE`, else a square of that side.
        resize: How pictures of other sizes are made to fit.
        filter: The resampling filter.
        colour: Default: ``grey`` if every picture is grey, else ``rgb``.
        cache: Folder of the cache. Default: ``pictures`` in :func:`cnn_train.data.user_cache.user_cache`.
        strict: Make unreadable pictures an error.

    Raises:
        DataError: no picture of a class or of a split can be read; a picture cannot be read or a labels file names one
            that does not exist, and ``strict`` is set; the cache cannot be written, or is inside the data set.
        ConfigError: the size is out of range.
    """
    if strict and source.missing:
        raise DataError(f"{source.missing}, and --strict is set")
    folder = cache_folder(cache)
    check_outside(source, folder, "--cache")
    headers: Counter[Header] = Counter()
    if size is None or colour is None:
        headers = headers_of(source, folder)
        header = common_header(headers)
        size = size or (header.height, header.width)
        colour = colour or ("grey" if header.grey else "rgb")
    spec = _spec(source.classes, size, colour, resize, filter)
    found = {name: _load_or_decode(source, name, spec, folder) for name in source.splits}
    remove_unused(folder)
    unreadable = [entry for name, split in found.items() for entry in _reasons(source.splits[name], split)]
    _check_complete(source, found, unreadable, strict)
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
        cropped=cropped_share(headers, spec.height, spec.width) if resize == "crop" else 0.0,
    )


def cache_folder(cache: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the cache: ``cache``, or ``pictures`` in :func:`cnn_train.data.user_cache.user_cache`."""
    return user_cache() / "pictures" if cache is None else Path(cache)


def read_split(source: Source, name: str, spec: Spec) -> tuple[Split, str, Sequence[tuple[str, str]]]:
    """Decode one split from the bytes of its files into memory, without the cache.

    Args:
        source: The data set.
        name: ``train``, ``val`` or ``test``.
        spec: Size, colour mode and way of resizing. Its classes are ignored.

    Returns:
        The split, its fingerprint (as in :class:`Dataset`), and path and reason of each unreadable picture.
    """
    records = source.splits[name]
    found = _decode_in_memory(source, name, spec)
    return _split(records, name, found), found.fingerprint, _reasons(records, found)


def cached_split(source: Source, name: str, spec: Spec, cache: Path) -> tuple[Split, str]:
    """Decode one split into the cache, or load it from there; return it and its fingerprint (as in :class:`Dataset`).

    Args:
        source: The data set.
        name: ``train``, ``val`` or ``test``.
        spec: Size, colour mode and way of resizing. Its classes are ignored.
        cache: Folder of the cache.

    Raises:
        DataError: the cache cannot be written.
    """
    found = _load_or_decode(source, name, spec, cache)
    return _split(source.splits[name], name, found), found.fingerprint


def _spec(
    classes: tuple[str, ...], size: int | tuple[int, int], colour: Colour, resize: Resize, resampling: Filter
) -> Spec:
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ConfigError(f"the size must be from 1 to {MAX_SIDE} pixels a side, not {height} x {width}")
    return Spec(classes, height, width, colour, resize, resampling, zero_point=0, scale=1 / 255)


def _load_or_decode(source: Source, name: str, spec: Spec, cache: Path) -> DecodedSplit:
    records = source.splits[name]
    if isinstance(records.pictures, np.ndarray):
        return _decode_in_memory(source, name, spec)
    entry = cache / decode_cache.key(records.pictures, records.labels, spec, source.name_form)
    found = decode_cache.load(entry, len(records.labels), spec)
    if found is not None and not _became_readable(records, found, spec):
        return found
    outcomes = closing(decoded(records.pictures, spec))
    with progress(f"decoding {name}", len(records.labels)) as advance, outcomes as pictures:
        decode_cache.store(entry, pictures, _relative_name(source, name), records.labels, spec, advance)
    found = decode_cache.load(entry, len(records.labels), spec)
    if found is None:
        raise DataError(f"the picture cache {printable(entry)} cannot be read back: remove it, or use another --cache")
    return found


def _became_readable(records: Records, found: DecodedSplit, spec: Spec) -> bool:
    """Whether a picture that was unreadable can be read now. A change of permissions leaves a file's time as it was."""
    left_out = [records.pictures[at] for at, _ in found.unreadable]
    return any(outcome.pixels is not None for outcome in decoded(left_out, spec))


def _decode_in_memory(source: Source, name: str, spec: Spec) -> DecodedSplit:
    records = source.splits[name]
    pictures = records.pictures
    if isinstance(pictures, np.ndarray) and pictures.shape[1:] == spec.shape:
        images, decoded_already = pictures, True
    else:
        images, decoded_already = np.empty((len(records.labels), *spec.shape), np.uint8), False
    positions = iter(range(len(images)))

    def take(pixels: NDArray[np.uint8]) -> None:
        if not decoded_already:
            images[next(positions)] = pixels

    with progress(f"decoding {name}", len(records.labels)) as advance, closing(decoded(pictures, spec)) as outcomes:
        kept, unreadable, fingerprint = decode_cache.collect(
            outcomes, _relative_name(source, name), records.labels, take, advance
        )
    return decode_cache.DecodedSplit(images[: len(kept)], kept, unreadable, fingerprint)


def _relative_name(source: Source, name: str) -> Callable[[int], str]:
    """The name of a picture wherever the data set is: its path below the folder, with slashes, or its index."""
    pictures = source.splits[name].pictures
    if isinstance(pictures, np.ndarray):
        return str
    start, form = len(os.path.join(source.location or "", "")), source.name_form

    def name_of(at: int) -> str:
        path = pictures[at][start:].replace(os.sep, "/")
        return unicodedata.normalize(form, path) if form else path

    return name_of


def _split(records: Records, name: str, found: DecodedSplit) -> Split:
    pictures = records.pictures

    def name_of(at: int) -> str:
        return f"{name}[{at}]" if isinstance(pictures, np.ndarray) else printable(pictures[at])

    return Split(found.images, records.labels[found.kept], Names(name_of, found.kept))


def _reasons(records: Records, found: DecodedSplit) -> list[tuple[str, str]]:
    """Path and reason of each unreadable picture."""
    return [(str(records.pictures[at]), reason) for at, reason in found.unreadable]


def _check_complete(
    source: Source, found: Mapping[str, DecodedSplit], unreadable: Sequence[tuple[str, str]], strict: bool
) -> None:
    """Refuse a data set that lacks all pictures of a split or of a class, or, if ``strict``, any picture."""
    where = printable(source.location or source.name)
    if strict and unreadable:
        pictures = "1 unreadable picture" if len(unreadable) == 1 else f"{len(unreadable):,} unreadable pictures"
        first = "; ".join(f"{printable(path)} ({reason})" for path, reason in unreadable[:3])
        more = f" and {len(unreadable) - 3:,} more" if len(unreadable) > 3 else ""
        raise DataError(f"{pictures}, and --strict is set: {first}{more}")
    for name, split in found.items():
        if not len(split.kept):
            raise DataError(f"{where}: no picture of the {name} split can be read: {split.unreadable[0][1]}")
    labels = source.splits["train"].labels[found["train"].kept]
    for label, count in enumerate(np.bincount(labels, minlength=len(source.classes))):
        if not count:
            raise DataError(f"{where}: no training picture of the class {source.classes[label]!r} can be read")
