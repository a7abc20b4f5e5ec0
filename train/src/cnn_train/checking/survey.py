"""One pass over all pictures: what can be read, kind and size, digests, perceptual hashes and details.

The perceptual hash is pHash (Zauner, 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions") as
ImageHash computes it: 64 bits, from the 8 x 8 lowest frequencies of the picture at 32 x 32.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cnn_infer.console import progress
from cnn_infer.errors import PictureError
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.pixels.open import open_file
from cnn_infer.pixels.orientation import orientation_of, turned
from cnn_infer.pixels.read import read_file
from cnn_infer.spec import Spec
from PIL import Image

from cnn_train.data.decode import in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    from cnn_train.checking.pictures import Pictures

Phash = Callable[[Image.Image], Any]
"""``imagehash.phash``."""

SIDE = 32
"""Pictures are compared at this size, in pixels a side."""

_SMALL = Spec(("a", "b"), SIDE, SIDE, "rgb", "squash", "bilinear", zero_point=0, scale=1 / 255)


class Facts(NamedTuple):
    """What is known of one picture.

    Attributes:
        mode: Colour mode of the file, in the words of Pillow, and whether it has transparency or several frames.
        width: Upright width in pixels.
        height: Upright height in pixels.
        orientation: EXIF orientation, 1 to 8.
        digest: 16 bytes, of the file or of the pixels.
        hashes: Perceptual hash, 64 bits, of the picture and of its mirror image.
        contrast: Standard deviation of the pixels at 32 x 32 in the channel where it is largest, 0 to 127.5.
        details: int8 (32, 32, 3), from :func:`details_of`.
        reason: Why it cannot be read; empty if it can. The other attributes are then without meaning.
    """

    mode: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    digest: bytes = bytes(16)
    hashes: tuple[int, int] = (0, 0)
    contrast: float = 0.0
    details: NDArray[np.int8] = np.zeros((SIDE, SIDE, 3), np.int8)
    reason: str = ""


@dataclass(frozen=True)
class Survey:
    """The facts of n pictures, some 60 bytes for each.

    Attributes:
        readable: bool (n,).
        reasons: Why a picture cannot be read, by its position.
        modes: The mode of each picture as an index into ``mode_names``, uint8 (n,).
        mode_names: At most 256 modes.
        sizes: int32 (n, 2), upright width and height.
        orientations: uint8 (n,), 1 to 8.
        digests: uint64 (n, 2), equal for equal files.
        hashes: uint64 (n, 2), of the pictures and of their mirror images.
        contrasts: float32 (n,).
        details: int8 (n, 32, 32, 3), in a temporary file.
    """

    readable: NDArray[np.bool_]
    reasons: Mapping[int, str]
    modes: NDArray[np.uint8]
    mode_names: tuple[str, ...]
    sizes: NDArray[np.int32]
    orientations: NDArray[np.uint8]
    digests: NDArray[np.uint64]
    hashes: NDArray[np.uint64]
    contrasts: NDArray[np.float32]
    details: NDArray[np.int8]


@contextmanager
def surveyed(pictures: Pictures, folder: Path) -> Iterator[Survey]:
    """Read each picture once, on all CPU cores.

    Args:
        pictures: All pictures, n of them.
        folder: The folder of a temporary file of 3,072 bytes for each picture, which has no name and goes with the
            block.

    Raises:
        OSError: the disk is full or writing is not permitted.
    """
    count = len(pictures)
    readable, reasons = np.zeros(count, np.bool_), dict[int, str]()
    modes, mode_numbers = np.zeros(count, np.uint8), dict[str, int]()
    sizes, orientations = np.zeros((count, 2), np.int32), np.ones(count, np.uint8)
    digests, hashes = np.zeros((count, 2), np.uint64), np.zeros((count, 2), np.uint64)
    contrasts = np.zeros(count, np.float32)
    import imagehash

    look = partial(_facts, phash=imagehash.phash)
    with tempfile.TemporaryFile(dir=folder) as stream:
        with progress("checking pictures", count) as advance, closing(in_order(look, pictures)) as outcomes:
            for at, facts in enumerate(outcomes):
                stream.write(facts.details.data)
                advance(1)
                if facts.reason:
                    reasons[at] = facts.reason
                    continue
                readable[at] = True
                modes[at] = mode_numbers.setdefault(facts.mode, min(len(mode_numbers), 255))
                sizes[at], orientations[at] = (facts.width, facts.height), facts.orientation
                digests[at] = np.frombuffer(facts.digest, np.uint64)
                hashes[at], contrasts[at] = facts.hashes, facts.contrast
        stream.flush()
        details = np.memmap(stream, np.int8, "r", shape=(count, SIDE, SIDE, 3))
        names = tuple(mode_numbers)[:256]
        yield Survey(readable, reasons, modes, names, sizes, orientations, digests, hashes, contrasts, details)


def details_of(picture: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return what makes a picture different from its blurred copy, the mean of 3 x 3 pixels.

    Brightness and contrast of the picture have no effect, and little of what pictures of one kind share: a dark object
    on a bright ground.

    Args:
        picture: uint8 (h, w, c).

    Returns:
        int8 (h, w, c), scaled so that the largest value is 127 or -127; zeros for a picture of one colour.
    """
    from scipy.ndimage import uniform_filter

    pixels = picture.astype(np.float32)
    rest = pixels - uniform_filter(pixels, (3, 3, 1), mode="nearest")
    rest -= rest.mean()
    largest = float(np.abs(rest).max())
    return np.rint(rest * (127 / largest)).astype(np.int8) if largest > 0 else np.zeros(picture.shape, np.int8)


def _facts(picture: str | NDArray[np.uint8], phash: Phash) -> Facts:
    try:
        if not isinstance(picture, str):
            height, width, channels = picture.shape
            head = Facts("L" if channels == 1 else "RGB", width, height, 1, _digest(picture.tobytes()))
            return _looked_at(head, to_pixels(picture, _SMALL), phash)
        data = read_file(picture)
        small = to_pixels(data, _SMALL)  # raises for all that training cannot read
        image = open_file(data)
        orientation = orientation_of(image)
        head = Facts(_mode(image), *turned(image.size, orientation), orientation, _digest(data))
        return _looked_at(head, small, phash)
    except PictureError as error:
        return Facts(reason=str(error))


def _looked_at(facts: Facts, small: NDArray[np.uint8], phash: Phash) -> Facts:
    grey = Image.fromarray(small).convert("L")
    both = (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    hashes = [int(np.packbits(phash(image).hash).view(">u8")[0]) for image in both]
    contrast = float(small.std(axis=(0, 1)).max())
    return facts._replace(hashes=(hashes[0], hashes[1]), contrast=contrast, details=details_of(small))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _mode(image: ImageFile) -> str:
    mode = image.mode
    if "transparency" in image.info and mode not in ("RGBA", "LA", "PA"):
        mode += " with transparency"
    with suppress(EOFError, OSError, SyntaxError, ValueError):  # a damaged second frame
        if getattr(image, "is_animated", False):
            mode += " with several frames"
    return mode
