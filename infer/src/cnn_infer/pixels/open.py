"""Open and decode picture files with Pillow. The first bytes of a file select the decoder.

``Image.open`` would ask every plugin that the process has registered, and its pixel limit is a global of the embedding
program. Each decoder is imported on first use.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING

from PIL import Image

from cnn_infer.errors import PictureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.ImageFile import ImageFile

_DECODERS = (
    (b"\xff\xd8\xff", "Jpeg"),
    (b"\x89PNG\r\n\x1a\n", "Png"),
    (b"RIFF", "WebP"),
    (b"BM", "Bmp"),
    (b"GIF8", "Gif"),
    (b"II*\0", "Tiff"),
    (b"MM\0*", "Tiff"),
    (b"II+\0", "Tiff"),  # BigTIFF
    (b"MM\0+", "Tiff"),
)

_NOT_DECODED = (
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"),
)
"""Kinds that are recognised so that the error can name them."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})

KINDS = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC"
"""The kinds of files that are decoded, for messages. AVIF needs Pillow 11.3 or later, HEIC the extra ``heif``."""

_INSTEAD = "save it as JPEG or PNG"
"""Advice for a picture of another kind."""


def open_file(data: bytes) -> ImageFile:
    """Read the header of a picture file.

    Raises:
        PictureError: the file is empty, of a kind that is not decoded, or not a picture.
    """
    if not data:
        raise PictureError("the file is empty")
    kind = next((name for magic, name in _DECODERS if data.startswith(magic)), None)
    if kind == "Png":
        from cnn_infer.pixels.png import open_png

        return open_png(data)
    if kind == "Tiff":
        from cnn_infer.pixels.tiff import open_tiff

        return open_tiff(data)
    if kind is not None:
        plugin = import_module(f"PIL.{kind}ImagePlugin")
        if not getattr(plugin, "SUPPORTED", True):
            raise PictureError(f"{kind} files need a Pillow that was built with {kind}: install it, or {_INSTEAD}")
        image: ImageFile = getattr(plugin, f"{kind}ImageFile")(io.BytesIO(data))
        return image
    brands = _brands(data)
    if brands & _AVIF_BRANDS:
        return _open_avif(data)
    if brands & _HEIF_BRANDS:
        return _open_heif(data)
    named = next((name for magic, name in _NOT_DECODED if data.startswith(magic)), None)
    if named is not None:
        raise PictureError(f"{named} files are not supported: {_INSTEAD}")
    raise PictureError(f"not a picture (expected {KINDS})")


def load(image: Image.Image) -> Image.Image:
    """Decode the pixels of an opened picture, and correct Pillow's errors for its kind of file."""
    if image.format == "PNG":
        from cnn_infer.pixels.png import PngImageFile, finish_png

        if isinstance(image, PngImageFile):
            return finish_png(image)
    elif image.format == "TIFF":
        from cnn_infer.pixels.tiff import TiffImageFile, finish_tiff

        if isinstance(image, TiffImageFile):
            return finish_tiff(image)
    elif image.format == "GIF":
        return _load_gif(image)
    image.load()
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")  # the fourth byte was never used: other viewers show the colours too
    return image


def _load_gif(image: Image.Image) -> Image.Image:
    """Make the screen outside of the first frame transparent, as browsers do. Pillow fills it with the first colour."""
    image.load()
    extents = getattr(image, "dispose_extent", None)  # unlike the tile, it stays available after decoding
    if extents is None or extents == (0, 0, *image.size) or "transparency" in image.info:
        return image
    if image.tell():  # Pillow draws later frames over the ones before
        return image
    screen = Image.new("RGBA", image.size)
    screen.paste(image.crop(extents).convert("RGBA"), extents[:2])
    return screen


def _brands(data: bytes) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12), such as AVIF and HEIC."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}


def _open_avif(data: bytes) -> ImageFile:
    from PIL import features

    if not features.check("avif"):
        raise PictureError(f"AVIF files need Pillow 11.3 or later with AVIF: upgrade Pillow, or {_INSTEAD}")
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile(io.BytesIO(data))


def _open_heif(data: bytes) -> ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise PictureError(
            f"HEIC files need the package pillow-heif: pip install 'cnn-infer[heif]', or {_INSTEAD}"
        ) from error
    decoder: Callable[[io.BytesIO], ImageFile] = HeifImageFile
    return decoder(io.BytesIO(data))
