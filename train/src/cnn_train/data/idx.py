"""IDX files, the format of MNIST: a magic number, the shape as big-endian integers, then the raw bytes of the array.

The format is described at http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import numpy as np
from cnn_infer.paths.naming import printable

from cnn_train.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAME = re.compile(r"(train|t10k)-(images|labels)[.-]idx[13]-ubyte(\.gz)?")
_PLACES = ("", "raw", "MNIST/raw", "FashionMNIST/raw")  # the folder itself, and torchvision's below it
MAX_BYTES = 1 << 34
"""A file whose header announces more bytes than this is treated as damaged."""

_UINT8 = 0x08
_GZIP = b"\x1f\x8b"


class IdxSet(NamedTuple):
    """The arrays of one data set.

    Attributes:
        train: Images uint8 (n, h, w, 1) and labels uint8 (n,).
        test: The same, or None if there are no ``t10k`` files.
    """

    train: tuple[NDArray[np.uint8], NDArray[np.uint8]]
    test: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes. Its content tells whether it is compressed with gzip.

    Returns:
        uint8, with 1 to 4 dimensions, read-only.

    Raises:
        DataError: the file cannot be read, is not an IDX file of bytes, or is shorter or longer than announced.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            return _read(cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{printable(path)} is a damaged gzip file ({error}): download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"not enough memory to read {printable(path)}") from error


def _read(stream: IO[bytes], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UINT8 or not 1 <= magic[3] <= 4:
        raise DataError(
            f"{printable(path)} is not an IDX file of bytes: it starts with {magic.hex() or 'nothing'} "
            "instead of 000008 and the number of dimensions"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{printable(path)} ends within its header: download it again")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    expected = math.prod(shape)
    if expected > MAX_BYTES:  # checked first, because reading allocates as much as the header announces
        raise DataError(f"the header of {printable(path)} announces {expected:,} bytes: download the file again")
    data = stream.read(expected + 1)  # one byte more than expected makes gzip verify its checksum
    if len(data) != expected:
        found = f"only {len(data):,}" if len(data) < expected else "more"
        raise DataError(
            f"{printable(path)} has {found} bytes of data where its header announces {expected:,}: download it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def find_idx(folder: str | os.PathLike[str]) -> Mapping[str, Path] | None:
    """Find the IDX files of a data set in ``folder``, or in torchvision's ``MNIST/raw`` below it.

    Returns:
        Paths by ``train-images``, ``train-labels`` and, if there is a test split, ``t10k-images`` and ``t10k-labels``.
        An uncompressed file is preferred to its ``.gz``. None if there is no IDX file.

    Raises:
        DataError: images lack their labels or the reverse, the training files are missing, or there are two data sets.
    """
    found = {place: files for place in _PLACES if (files := _named(Path(folder) / place))}
    if not found:
        return None
    if len(found) > 1:
        raise DataError(
            f"{printable(folder)} holds several data sets: name one of {', '.join(p or '.' for p in found)}"
        )
    files = next(iter(found.values()))
    for part in ("train", "t10k"):
        have = [kind for kind in ("images", "labels") if f"{part}-{kind}" in files]
        if len(have) == 1 or (part == "train" and not have):
            missing = next(kind for kind in ("images", "labels") if kind not in have)
            raise DataError(f"{printable(folder)} has IDX files but no {part}-{missing}: put it beside the others")
    return files


def _named(folder: Path) -> dict[str, Path]:
    try:
        names = sorted(os.listdir(folder), reverse=True)  # the uncompressed file comes last and wins
    except OSError:
        return {}
    return {f"{match[1]}-{match[2]}": folder / name for name in names if (match := _NAME.fullmatch(name))}


def load_idx(files: Mapping[str, Path]) -> IdxSet:
    """Read the files that :func:`find_idx` found.

    Raises:
        DataError: as for :func:`read_idx`; the numbers of images and labels differ; the splits differ in picture size.
    """
    train = _pair(files["train-images"], files["train-labels"])
    if "t10k-images" not in files:
        return IdxSet(train, None)
    test = _pair(files["t10k-images"], files["t10k-labels"])
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = " and ".join(f"{images.shape[2]} x {images.shape[1]}" for images, _ in (train, test))
        raise DataError(f"{printable(files['t10k-images'])}: training and test pictures differ in size, {sizes}")
    return IdxSet(train, test)


def _pair(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or not images.size:
        raise DataError(f"{printable(images_path)} holds an array of shape {images.shape}, not grey pictures (n, h, w)")
    if labels.ndim != 1:
        raise DataError(f"{printable(labels_path)} holds an array of shape {labels.shape}, not a list of labels")
    if len(images) != len(labels):
        raise DataError(
            f"{printable(images_path)} has {len(images):,} pictures but {labels_path.name} has {len(labels):,} labels"
        )
    return images[..., np.newaxis], labels
