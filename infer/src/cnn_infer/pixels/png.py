"""PNG files: Pillow gets only the chunks that determine the pixels. A transparent colour keeps its bit depth.

(PNG specification, third edition, W3C 2025.)
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile as PngImageFile

from cnn_infer.errors import PictureError
from cnn_infer.pixels.depth import eight_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"\x89PNG\r\n\x1a\n"

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt"})
_EXIF_KEYWORDS = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords of text chunks with EXIF in hexadecimal. ImageMagick and others wrote them before eXIf existed (2017)."""

_LONGEST_PROFILE = 1 << 18
"""Largest size of such a text in bytes. EXIF has at most 64 KiB."""


def open_png(data: bytes) -> PngImageFile:
    """Open a PNG file without its texts, colour profiles and private chunks.

    Pillow refuses a file whose texts or profile are large or damaged, although its pixels are intact.
    """
    kept = [MAGIC]
    exif = profile = None
    for kind, whole in _chunks(data):
        if kind == b"eXIf":
            exif = exif or whole
        elif kind in _PIXEL_CHUNKS or kind is None:
            kept.append(whole)
        elif kind in _TEXT_CHUNKS and profile is None:
            profile = _exif_of(kind, whole[8:-4])
    if exif is None and profile is not None:
        exif = _chunk(b"eXIf", profile)
    if exif is not None:
        kept.insert(2, exif)  # after IHDR: the file may have it after the pixels, where Pillow finds it too late
    return PngImageFile(io.BytesIO(b"".join(kept)))


def finish_png(image: PngImageFile) -> Image.Image:
    """Decode the pixels, and add alpha if the file has a transparent colour.

    The transparent colour has the bit depth of the file. Pillow compares it with pixels of 8 bits.
    """
    key = image.info.get("transparency")
    raw = str(image.tile[0].args) if image.tile else ""
    if raw == "RGB;16B" and key is not None:
        return _with_alpha_of_rgb16(image, key)
    image.load()
    if key is None or isinstance(key, bytes):
        return image
    if image.mode == "I;16":
        values = np.asarray(image)
        return _with_alpha(eight_bits(values), values == key)
    if raw in _GREY_STEPS:
        image.info["transparency"] = key * 255 // _GREY_STEPS[raw]
    return image


_GREY_STEPS = {"1": 1, "L;2": 3, "L;4": 15}
"""The largest value of a grey file, by Pillow's name of its depth."""


def _with_alpha_of_rgb16(image: PngImageFile, key: tuple[int, int, int]) -> Image.Image:
    """Pillow has no mode for RGB of 16 bits: decode the high bytes, and the low ones, and compare both."""
    content = _all_bytes(image)
    high, low = (PngImageFile(io.BytesIO(content)) for _ in range(2))  # the image of a caller can be used again
    low.tile = [part._replace(args="RGB;16L") for part in low.tile]  # the other byte order: the other byte
    low.load()
    wanted_high, wanted_low = np.divmod(np.array(key), 256)
    pixels = np.asarray(high)
    transparent = ((pixels == wanted_high) & (np.asarray(low) == wanted_low)).all(axis=2)
    return _with_alpha(pixels, transparent)


def _all_bytes(image: PngImageFile) -> bytes:
    stream = image.fp
    if stream is None:
        raise PictureError("the file was closed before its pixels were read")
    position = stream.tell()
    stream.seek(0)
    content: bytes = stream.read()
    stream.seek(position)
    return content


def _with_alpha(pixels: NDArray[np.uint8], transparent: NDArray[np.bool_]) -> Image.Image:
    alpha = np.where(transparent, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))  # LA or RGBA


def _chunks(data: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield the kind and the bytes of each chunk. The kind of an incomplete last chunk is None."""
    start = len(MAGIC)
    while start < len(data):
        length = int.from_bytes(data[start : start + 4])
        end = start + length + 12
        if end > len(data):
            yield None, data[start:]
            return
        yield data[start + 4 : start + 8], data[start:end]
        start = end


def _exif_of(kind: bytes, content: bytes) -> bytes | None:
    """The EXIF block in a text chunk, beginning with its byte order; None where there is none, or it is damaged."""
    keyword = next((word for word in _EXIF_KEYWORDS if content.startswith(word)), None)
    if keyword is None:
        return None
    text = content[len(keyword) :]
    try:
        if kind == b"zTXt":  # one byte names the method
            text = zlib.decompressobj().decompress(text[1:], _LONGEST_PROFILE)
        # a line break, the profile's name, its length, and the bytes in lines
        _, _, _, *lines = text.split(b"\n")
        profile = bytes.fromhex(b"".join(lines).decode("ascii"))
    except (zlib.error, ValueError):
        return None
    return profile.removeprefix(b"Exif\0\0")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
