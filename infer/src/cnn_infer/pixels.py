"""Picture to pixels: the one path from a file, bytes, a PIL image or an array to what a model takes.

Training, calibration, parity and inference all call :func:`to_pixels`, so they see the same bytes.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from cnn_infer.errors import EdgeCNNError, InputError, PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Colour, Filter, Spec

    Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 100_000_000
"""Pictures with more pixels than this are refused before they are decoded."""

MAX_BYTES = 400_000_000
"""Files with more bytes than this are refused before they are read: :data:`MAX_PIXELS` of four bytes each fit."""

PADDING = 128
"""Mid-grey: the value of what ``pad`` adds around a picture, in every channel."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
"""File names that folders are searched for, in lower case. What decodes a file is its content, not its name."""

_FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

# Decoders are picked by content from this list and called directly: Image.open would ask every plugin that
# the process has registered, and its own pixel limit is a global of the embedding program.
_DECODERS: tuple[tuple[bytes, Callable[..., ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    (b"GIF8", GifImagePlugin.GifImageFile),
    (b"II*\x00", TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", TiffImagePlugin.TiffImageFile),
)

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})


class Header(NamedTuple):
    """What a picture says of itself before it is decoded, upright (EXIF orientation applied)."""

    width: int
    height: int
    grey: bool


def to_pixels(
    picture: Picture, spec: Spec, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> NDArray[np.uint8]:
    """The picture as the model takes it: uint8, shape ``spec.shape`` (height, width, channels).

    Args:
        picture: A path, the bytes of a file, a PIL image, or an array: uint8, (h, w) or (h, w, 1) grey,
            (h, w, 3) RGB. Files may be JPEG, PNG, WebP, BMP, GIF (first frame) or TIFF.
        spec: The model's size, colour mode, way of resizing and filter.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Files of more bytes are refused before they are read.

    Raises:
        PictureError: the picture cannot be read, is damaged, too large, or of an unsupported kind.
        InputError: the argument is none of the above, or an array of another shape or type.
    """
    if isinstance(picture, np.ndarray) and picture.shape == spec.shape and picture.dtype == np.uint8:
        return picture
    with _reasons_named():
        return fitted(decode(picture, spec, max_pixels=max_pixels, max_bytes=max_bytes), spec)


def decode(picture: Picture, spec: Spec, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Image.Image:
    """The first half of :func:`to_pixels`: upright, in the model's colours, not yet of its size.

    Of a JPEG file that is much larger than the model's pictures only as many pixels are decoded as are needed.

    Args and errors are those of :func:`to_pixels`.
    """
    if isinstance(picture, np.ndarray):
        return _in_colour(_from_array(picture), spec.colour)
    with _reasons_named():
        if isinstance(picture, Image.Image):
            image = _limited(picture, max_pixels)
        else:
            image = _limited(_open(_bytes_of(picture, max_bytes)), max_pixels)
            _shrink_while_decoding(image, spec)
        image.load()
        return _in_colour(_upright(image), spec.colour)


def read_header(
    picture: str | os.PathLike[str] | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Header:
    """Size and colour of a file without decoding its pixels; the limits are those of :func:`to_pixels`.

    Raises:
        PictureError: as :func:`to_pixels`, as far as the header tells.
    """
    with _reasons_named():
        image = _limited(_open(_bytes_of(picture, max_bytes)), max_pixels)
        return Header(*_turned(image.size, _orientation(image)), grey=image.mode in _GREY_MODES)


def read_file(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a picture file.

    Raises:
        PictureError: it cannot be read, or has more than ``max_bytes``.
    """
    try:
        with open(path, "rb") as stream:
            _check_size(os.fstat(stream.fileno()).st_size, max_bytes)
            data = stream.read(max_bytes + 1)  # it may grow meanwhile, or be a pipe
    except IsADirectoryError as error:
        raise PictureError("it is a folder; one found in a folder could not be listed") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise PictureError(f"cannot read it: {getattr(error, 'strerror', None) or error}") from error
    _check_size(len(data), max_bytes)
    return data


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PictureError(f"the file has more than {max_bytes:,} bytes")


@contextmanager
def _reasons_named() -> Iterator[None]:
    """Decoders raise almost anything on damaged files: make each a :class:`PictureError` with its reason."""
    try:
        yield
    except EdgeCNNError:
        raise
    except MemoryError as error:
        raise PictureError("not enough memory to decode it") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"damaged or unsupported picture: {reason}") from error


def _bytes_of(picture: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    if isinstance(picture, bytes):
        _check_size(len(picture), max_bytes)
        return picture
    if not isinstance(picture, (str, os.PathLike)):
        raise InputError(f"expected a path, bytes, a PIL image or a uint8 array, not {type(picture).__name__}")
    return read_file(picture, max_bytes=max_bytes)


def _open(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise PictureError("the file is empty")
    for magic, decoder in _DECODERS:
        if data.startswith(magic):
            return decoder(io.BytesIO(data))
    raise PictureError("not a picture (expected JPEG, PNG, WebP, BMP, GIF or TIFF)")


def _limited(image: Image.Image, max_pixels: int) -> Image.Image:
    width, height = image.size
    if not width or not height:
        raise PictureError("the picture has no pixels")
    if width * height > max_pixels:
        raise PictureError(f"{width} x {height} pixels exceed the limit of {max_pixels:,}")
    return image


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8:
        raise InputError(f"the array must be uint8 with values from 0 to 255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise InputError(f"the array must be (h, w) grey or (h, w, 3) RGB, not of shape {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8 (Exif 2.32, tag 274). Pillow applies a TIFF's own while it loads."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow raises many kinds here
        return 1  # a damaged EXIF block says nothing about the pixels


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if 5 <= orientation <= 8 else size


def _upright(image: Image.Image) -> Image.Image:
    transpose = _TRANSPOSE.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _shrink_while_decoding(image: Image.Image, spec: Spec) -> None:
    """Let a JPEG decode at 1/2, 1/4 or 1/8 where that is still twice the size it is resized to."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        orientation = _orientation(image)
        width, height = _turned(image.size, orientation)
        ratio = _ratio(width, height, spec)
        # what rounding adds to a whole number must not ask for one pixel more
        target = (math.ceil(2 * width / ratio[0] - 1e-6), math.ceil(2 * height / ratio[1] - 1e-6))
        image.draft(None, _turned(target, orientation))


def _in_colour(image: Image.Image, colour: Colour) -> Image.Image:
    """Mode L or RGB: transparency over white, 16 bits divided by 257, everything else as Pillow converts it."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
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
    """Source pixels to a target pixel, across and down."""
    across, down = width / spec.width, height / spec.height
    if spec.resize == "crop":
        across = down = min(across, down)
    elif spec.resize == "pad":
        across = down = max(across, down)
    return across, down


def fitted(image: Image.Image, spec: Spec) -> NDArray[np.uint8]:
    """One antialiased resize to the model's size; what is outside of a crop is never computed."""
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
