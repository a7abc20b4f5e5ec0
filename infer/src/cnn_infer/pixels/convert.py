"""Convert a picture (a file, bytes, a PIL image or an array) to the pixels that a model takes.

Training, calibration, the parity check and inference all call :func:`to_pixels`, so they use the same pixels.
"""

from __future__ import annotations

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
from cnn_infer.pixels.resize import fitted, image_of, jpeg_divisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from cnn_infer.pixels.resize import DecodedPicture
    from cnn_infer.spec import Colour, Spec

    Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]
    """What :func:`to_pixels` accepts."""

STAGES = ("decode", "orientation", "colour", "resize")
"""The stages of :func:`to_pixels`, in order; :func:`stages_of` returns the picture after each."""

MAX_PIXELS = 100_000_000
"""Default limit on a picture's size in pixels."""

EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)
"""Extensions of picture files in folders, in lower case. The content of a file, not its name, selects the decoder."""

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
            extra ``cnn-infer[heif]``. Pass the path or the bytes of a file rather than a PIL image: that is resized
            from its full size, so the pixels of a large JPEG file differ slightly from those of training; and once
            its ``load()`` was called, the transparent colour of a PNG file with other than 8 bits may be lost.
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


def stages_of(picture: Picture, spec: Spec) -> dict[str, DecodedPicture]:
    """Return the picture after each of :data:`STAGES`, computed by the functions that :func:`to_pixels` calls.

    ``decode`` has the pixels that the decoder gives, in the colour mode of the file. TIFF files are turned upright by
    their decoder.

    Raises:
        PictureError: the picture cannot be read, is damaged, or of an unsupported kind.
    """
    found: dict[str, DecodedPicture] = {}
    with _picture_errors():
        found["resize"] = fitted(_decoded(picture, spec, MAX_PIXELS, MAX_BYTES, found.__setitem__), spec)
    return found


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
            size, grey = (found.width, found.height), found.colour == "grey"
            orientation = _orientation_of_jpeg(data, found)
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


def _unobserved(stage: str, picture: DecodedPicture) -> None:
    """Do nothing with the picture after a stage."""


def _decoded(
    picture: Picture,
    spec: Spec,
    max_pixels: int,
    max_bytes: int,
    observe: Callable[[str, DecodedPicture], None] = _unobserved,
) -> DecodedPicture:
    found, orientation = _raw(picture, spec, max_pixels, max_bytes)
    observe("decode", found)
    if orientation != 1:
        found = upright(image_of(found), orientation)
    observe("orientation", found)
    found = _in_colour(found, spec.colour)
    observe("colour", found)
    return found


def _raw(picture: Picture, spec: Spec, max_pixels: int, max_bytes: int) -> tuple[DecodedPicture, int]:
    """Return the pixels that the decoder gives, and the EXIF orientation that is still to be applied."""
    if isinstance(picture, np.ndarray):
        return _from_array(picture), 1
    if isinstance(picture, Image.Image):
        _check_size(picture.size, max_pixels)
        loaded = load(picture)
        return loaded, orientation_of(picture)
    data = bytes_of(picture, max_bytes)
    found = _from_jpeg(data, spec, max_pixels) if data.startswith(jpeg.MAGIC) else None
    return _from_file(data, spec, max_pixels) if found is None else found


def _from_jpeg(data: bytes, spec: Spec, max_pixels: int) -> tuple[DecodedPicture, int] | None:
    header = jpeg.read_header(data)
    if header is None:
        return None
    size = header.width, header.height
    _check_size(size, max_pixels)
    orientation = _orientation_of_jpeg(data, header)
    pixels = jpeg.decode(data, header, jpeg_divisor(*turned(size, orientation), spec))
    return None if pixels is None else (pixels, orientation)


def _from_file(data: bytes, spec: Spec, max_pixels: int) -> tuple[DecodedPicture, int]:
    image = open_file(data)
    _check_size(image.size, max_pixels)
    orientation = orientation_of(image)
    if image.format == "JPEG":
        ended = jpeg.with_end(data)
        if ended is not data:
            found = _from_jpeg(ended, spec, max_pixels)
            return _from_file(ended, spec, max_pixels) if found is None else found
        divisor = jpeg_divisor(*turned(image.size, orientation), spec)
        image.draft(None, (image.width // divisor, image.height // divisor))
    loaded = load(image)
    return loaded, orientation_of(image)


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


def _orientation_of_jpeg(data: bytes, header: jpeg.JpegHeader) -> int:
    return orientation_of(open_file(data)) if header.may_have_exif else 1


def _in_colour(picture: DecodedPicture, colour: Colour) -> DecodedPicture:
    """Convert to mode L or RGB: transparency on white, 16-bit values divided by 257, all else as Pillow converts."""
    if isinstance(picture, np.ndarray) and (picture.ndim == 2) == (colour == "grey"):
        return picture
    image = image_of(picture)
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
