"""Many pictures through the one path to pixels: on all cores, in order, a few at a time."""

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

_CHUNK = 32  # pictures a thread takes at once: enough that handing them over costs nothing


class Outcome(NamedTuple):
    """One picture: its pixels, uint8 (h, w, c), and the SHA-256 of what they came from; or why there are none."""

    pixels: NDArray[np.uint8] | None
    digest: bytes
    reason: str


def decoded(pictures: Sequence[str] | NDArray[np.uint8], spec: Spec) -> Generator[Outcome, None, None]:
    """The pictures as ``spec`` has them, in their order; what cannot be read has a reason instead of pixels."""
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
    """SHA-256, hexadecimal, of the first pictures as they are before they are made to fit ``spec``'s size.

    Beside a digest of what the network takes it tells whether another decoder or another resize is to blame.
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
    """``function`` of each item, computed on all cores, in the order of the items. Close it to stop early."""
    return stream.in_order(lambda chunk: [function(item) for item in chunk], items, chunk=_CHUNK, workers=usable_cpus())
