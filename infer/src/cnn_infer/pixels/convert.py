"""Convert a picture (a file, bytes, a PIL image or an array) to the pixels that a model takes.

Training, calibration, the parity check and inference all call :func:`to_pixels`, so they use the same pixels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from cnn_infer.errors import EdgeCNNError, InputError, PictureError
from cnn_infer.pixels import jpeg
from cnn_infer.pixels.depth import eight_bits
from cnn_infer.pixels.open import load, open_file
from cnn_infer.pixels.orientation import orientation_of, turned, upright
from cnn_infer.pixels.read import MAX_BYTES, bytes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Colour, Filter, Spec

    Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
    """What :func:`to_pixels` accepts."""

    DecodedPicture = Image.Image | NDArray[np.uint8]
    """An upright picture in the model's colours, not resized yet; see :func:`decode`."""

MAX_PIXELS = 100_000_000
"""Default limit on a picture's size in pixels."""

PADDING = 128
"""The value of the pixels that ``pad`` adds around a picture, in every channel: mid-grey."""

EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)
"""Extensions of picture files in folders, in lower case. The content of a file, not its name, selects the decoder."""

_FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})


class Header(NamedTuple):
    """Size and colour of a picture file, read without decoding its pixels.

    Attributes:
        width: Width in pixels, after the EXIF orientation is applied.
        height: Height in pixels, after the EXIF orientation is applied.
        grey: Whether the picture is grey.
    """

    width: int
    height: int
    grey: bool


def to_pixels(
    picture: Picture, spec: Spec, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> NDArray[np.uint8]:
    """Convert a picture to the model's input: uint8, shape (height, width, channels) as in ``spec.shape``.

    The picture is turned upright (EXIF), converted to the model's colour mode, resized, and cropped or padded.
    Transparent pixels are blended with white. An array that already has the model's shape is returned as it is.

    Args:
        picture: A path, the bytes of a file, a PIL image, or a uint8 array: (h, w) or (h, w, 1) grey, (h, w, 3) RGB.
            Files may be JPEG, PNG, WebP, BMP, GIF (first frame) or TIFF, AVIF where Pillow has it, and HEIC with the
            extra ``cnn-infer[heif]``.
        spec: The model's specification.
        max_pixels: Pictures with more pixels are refused before they are decoded.
        max_bytes: Files with more bytes are refused before they are read.

    Raises:
        PictureError: the picture cannot be read, is damaged, too large, or of an unsupported kind.
        InputError: the argument has another type, or the array has another shape or type.
    """
    if isinstance(picture, np.ndarray) and picture.shape == spec.shape and picture.dtype == np.uint8:
        return picture
    with _picture_errors():
        return fitted(_decoded(picture, spec, max_pixels, max_bytes), spec)


def decode(picture: Picture, spec: Spec, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> DecodedPicture:
    """Do the first half of :func:`to_pixels`: decode, turn upright, convert colours. :func:`fitted` is the second half.

    A large JPEG file is decoded at 1/2, 1/4 or 1/8 of its size, if that is at least twice the size it is resized to.
    The arguments and errors are those of :func:`to_pixels`.

    Returns:
        A PIL image of mode L or RGB, or an array, uint8 (h, w) or (h, w, 3), of any size.
    """
    with _picture_errors():
        return _decoded(picture, spec, max_pixels, max_bytes)


def read_header(
    picture: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Header:
    """Return size and colour of a picture file without decoding its pixels.

    Args:
        picture: A path or the bytes of a file.
        max_pixels: As for :func:`to_pixels`.
        max_bytes: As for :func:`to_pixels`.

    Raises:
        PictureError: the file cannot be read, is too large, or its header is damaged or of an unsupported format.
        InputError: ``picture`` is neither a path nor bytes.
    """
    with _picture_errors():
        data = bytes_of(picture, max_bytes)
        found = jpeg.read_header(data) if data.startswith(jpeg.MAGIC) else None
        if found is not None:
            size, orientation, grey = (found.width, found.height), _orientation_of_jpeg(data), found.colour == "grey"
        else:
            image = open_file(data)
            size, orientation, grey = image.size, orientation_of(image), image.mode in _GREY_MODES
        _check_size(size, max_pixels)
        return Header(*turned(size, orientation), grey=grey)


@contextmanager
def _picture_errors() -> Iterator[None]:
    """Turn any exception of a decoder into a :class:`PictureError`: on damaged files decoders raise many types."""
    try:
        yield
    except EdgeCNNError:
        raise
    except MemoryError as error:
        raise PictureError("not enough memory to decode it") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"damaged or unsupported picture: {reason}") from error


def _decoded(picture: Picture, spec: Spec, max_pixels: int, max_bytes: int) -> DecodedPicture:
    if isinstance(picture, np.ndarray):
        return _in_colour(_from_array(picture), spec.colour)
    if isinstance(picture, Image.Image):
        _check_size(picture.size, max_pixels)
        loaded = load(picture)
        return _in_colour(upright(loaded, orientation_of(picture)), spec.colour)
    data = bytes_of(picture, max_bytes)
    found = _from_jpeg(data, spec, max_pixels) if data.startswith(jpeg.MAGIC) else None
    return _from_file(data, spec, max_pixels) if found is None else found


def _from_jpeg(data: bytes, spec: Spec, max_pixels: int) -> DecodedPicture | None:
    header = jpeg.read_header(data)
    if header is None:
        return None
    size = header.width, header.height
    _check_size(size, max_pixels)
    orientation = _orientation_of_jpeg(data)
    pixels = jpeg.decode(data, header, _divisor(*turned(size, orientation), spec))
    if pixels is None or (orientation == 1 and header.colour == spec.colour):
        return pixels
    return _in_colour(upright(Image.fromarray(pixels), orientation), spec.colour)


def _from_file(data: bytes, spec: Spec, max_pixels: int) -> DecodedPicture:
    image = open_file(data)
    _check_size(image.size, max_pixels)
    orientation = orientation_of(image)
    if image.format == "JPEG":
        ended = jpeg.with_end(data)
        if ended is not data:
            found = _from_jpeg(ended, spec, max_pixels)
            return _from_file(ended, spec, max_pixels) if found is None else found
        divisor = _divisor(*turned(image.size, orientation), spec)
        image.draft(None, (image.width // divisor, image.height // divisor))
    loaded = load(image)
    return _in_colour(upright(loaded, orientation_of(image)), spec.colour)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not width or not height:
        raise PictureError("the picture has no pixels")
    if width * height > max_pixels:
        raise PictureError(f"{width} x {height} pixels exceed the limit of {max_pixels:,}")


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8:
        raise InputError(f"the array must be uint8 with values from 0 to 255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InputError(f"the array must be (h, w) grey or (h, w, 3) RGB, not of shape {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _orientation_of_jpeg(data: bytes) -> int:
    return orientation_of(open_file(data)) if b"Exif\0\0" in data else 1


def _divisor(width: int, height: int, spec: Spec) -> int:
    """Return 1, 2, 4 or 8: the largest divisor that leaves a JPEG at least twice the size it is resized to.

    Args:
        width: Upright width in pixels.
        height: Upright height in pixels.
        spec: The model's specification.
    """
    across, down = _ratio(width, height, spec)
    # without 1e-6 a rounding error above a whole number would be rounded up to one pixel more
    least = (math.ceil(2 * width / across - 1e-6), math.ceil(2 * height / down - 1e-6))
    fitting = (by for by in jpeg.divisors(width, height) if width >= by * least[0] and height >= by * least[1])
    return next(fitting, 1)


def _in_colour(image: Image.Image, colour: Colour) -> Image.Image:
    """Convert to mode L or RGB: transparency on white, 16-bit values divided by 257, all else as Pillow converts."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    elif image.mode in ("I", "F"):
        raise PictureError("pictures of 32 bits a channel are not supported: save it with 8 or 16")
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white.convert("RGB")
    mode = "L" if colour == "grey" else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _ratio(width: int, height: int, spec: Spec) -> tuple[float, float]:
    """Return how many source pixels one target pixel covers, horizontally and vertically."""
    across, down = width / spec.width, height / spec.height
    if spec.resize == "crop":
        across = down = min(across, down)
    elif spec.resize == "pad":
        across = down = max(across, down)
    return across, down


def fitted(decoded: DecodedPicture, spec: Spec) -> NDArray[np.uint8]:
    """Resize a decoded picture to the model's size in one antialiased step, with crop or padding.

    Returns:
        uint8, shape ``spec.shape``.
    """
    if isinstance(decoded, np.ndarray) and decoded.shape[:2] == spec.shape[:2]:
        return decoded.reshape(spec.shape)
    image = Image.fromarray(decoded) if isinstance(decoded, np.ndarray) else decoded
    width, height = image.size
    if (width, height) != (spec.width, spec.height):
        across, down = _ratio(width, height, spec)
        resampling = _FILTERS[spec.filter]
        if spec.resize == "pad":
            inner = (max(1, round(width / across)), max(1, round(height / down)))
            canvas = Image.new(image.mode, (spec.width, spec.height), (PADDING,) * len(image.getbands()))
            canvas.paste(image.resize(inner, resampling), ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2))
            image = canvas
        else:
            left = (width - spec.width * across) / 2
            top = (height - spec.height * down) / 2
            box = (max(0.0, left), max(0.0, top), min(width, width - left), min(height, height - top))
            image = image.resize((spec.width, spec.height), resampling, box)
    return np.asarray(image).reshape(spec.shape)
