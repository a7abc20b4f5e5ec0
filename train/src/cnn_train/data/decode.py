"""Decoding of many pictures on all CPU cores, in order, a few at a time, by the code that inference uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from cnn_infer import stream
from cnn_infer.errors import PictureError
from cnn_infer.pixels.convert import decode, to_pixels
from cnn_infer.pixels.read import read_file
from cnn_infer.system.machine import usable_cpus

if TYPE_CHECKING:
    from cnn_infer.spec import Spec
    from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 32  # items per task of a worker thread, so that the cost of a task does not matter


class Outcome(NamedTuple):
    """The result of decoding one picture.

    Attributes:
        pixels: uint8 (h, w, c), or None if the picture is unreadable.
        digest: SHA-256 of the file, or of the original pixels; empty if the picture is unreadable.
        reason: Why the picture is unreadable; empty if it is readable.
    """

    pixels: NDArray[np.uint8] | None
    digest: bytes
    reason: str


def decoded(pictures: Sequence[str] | NDArray[np.uint8], spec: Spec) -> Generator[Outcome, None, None]:
    """Decode pictures to the size and colour mode of ``spec``, in order.

    Args:
        pictures: Paths, or uint8 (n, h, w, c).
        spec: Size, colour mode and way of resizing.
    """
    return in_order(lambda picture: _decode(picture, spec), pictures)


def _decode(picture: str | NDArray[np.uint8], spec: Spec) -> Outcome:
    try:
        if isinstance(picture, str):
            data = read_file(picture)
            return Outcome(to_pixels(data, spec), hashlib.sha256(data).digest(), "")
        return Outcome(to_pixels(picture, spec), hashlib.sha256(picture.tobytes()).digest(), "")
    except PictureError as error:
        return Outcome(None, b"", str(error))


def decode_digest(pictures: Sequence[str] | NDArray[np.uint8], spec: Spec, most: int = 64) -> str:
    """Return the SHA-256, hexadecimal, of the first ``most`` pictures, decoded but not yet resized.

    If the pixels of the network's input differ between two machines, this tells whether decoding or resizing differs.

    Args:
        pictures: Paths, or uint8 (n, h, w, c).
        spec: Colour mode, and the size that a JPEG decoder may scale down towards.
        most: Number of pictures.
    """
    digest = hashlib.sha256()
    for picture in pictures[:most]:
        try:
            pixels = np.asarray(decode(read_file(picture) if isinstance(picture, str) else picture, spec))
        except PictureError as error:
            pixels = np.frombuffer(str(error).encode(), np.uint8)
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
    return digest.hexdigest()


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in order, computed on all CPU cores. Close it to stop early."""
    return stream.in_order(
        lambda chunk: [function(item) for item in chunk],
        items,
        chunk=_CHUNK,
        workers=usable_cpus(),
        parts=stream.PARTS,
    )
