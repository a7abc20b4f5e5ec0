"""Conformance files that are drawn by code: small pictures of every kind whose pixels may differ between machines.

The drawing has slopes, edges and saturated colours and no symmetry, so that a wrong orientation, upsampling of colour,
conversion of colour or resize filter changes its pixels clearly. The bytes depend on the versions of the libraries.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from cnn_infer import Spec
from numpy.typing import NDArray
from PIL import Image, features

SCALED_PIXELS = 1 << 22
"""The picture that a JPEG decoder scales down is left out if it would have more pixels: models of about 500 x 500."""

_SIZE = 29, 23
_ORIENTATION = 0x0112
_SETTINGS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 60, "optimize": True}, "PNG": {"optimize": True}}


class PictureFile(NamedTuple):
    """A picture file.

    Attributes:
        name: What kind of file it is, for people.
        data: Its bytes.
    """

    name: str
    data: bytes


def drawing(width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture that all files show: uint8 (height, width, 3)."""
    down, across = np.mgrid[0:height, 0:width]
    u, v = (across + 0.5) / width, (down + 0.5) / height
    pixels = np.stack([40 + 180 * u, 220 * (1 - v), 60 + 160 * u * v], axis=2)
    pixels[(u - 0.3) ** 2 + (v - 0.35) ** 2 < 0.045] = 250, 10, 20
    pixels[(u > 0.6) & (u < 0.8) & (v > 0.45)] = 15, 30, 245
    pixels[v > 1.4 - 0.9 * u] = 250, 240, 0
    rounded: NDArray[np.uint8] = np.rint(pixels).astype(np.uint8)
    return rounded


def drawn_files(spec: Spec) -> list[PictureFile]:
    """Return the files for a model. Kinds that the installed Pillow cannot write are left out."""
    return [*_jpegs(spec), *_pngs(), *_others()]


def _jpegs(spec: Spec) -> Iterator[PictureFile]:
    scene = Image.fromarray(drawing(*_SIZE))
    yield PictureFile("JPEG, baseline, 4:2:0", _saved(scene, "JPEG", subsampling="4:2:0"))
    for subsampling, progressive, orientation in (
        ("4:2:0", False, 6),
        ("4:2:2", False, 2),
        ("4:4:4", False, 5),
        ("4:2:0", True, 8),
    ):
        exif = _exif(orientation)
        data = _saved(scene, "JPEG", subsampling=subsampling, progressive=progressive, exif=exif)
        kind = "progressive" if progressive else "baseline"
        yield PictureFile(f"JPEG, {kind}, {subsampling}, EXIF orientation {orientation}", data)
    yield PictureFile("JPEG, grey, EXIF orientation 3", _saved(scene.convert("L"), "JPEG", exif=_exif(3)))
    yield PictureFile("JPEG, CMYK", _saved(scene.convert("CMYK"), "JPEG"))
    for width, height in ((1, 61), (127, 3), (43, 31)):
        data = _saved(Image.fromarray(drawing(width, height)), "JPEG", subsampling="4:2:0")
        yield PictureFile(f"JPEG, {width} x {height}", data)
    # four times the model's size: half of it is still the double that is resized
    width, height = 4 * spec.width + 3, 4 * spec.height + 5
    if width * height <= SCALED_PIXELS:
        large = Image.fromarray(drawing(width, height))
        data = _saved(large, "JPEG", subsampling="4:2:0", progressive=True, quality=25)
        yield PictureFile(f"JPEG, {width} x {height}, scaled by the decoder", data)


def _pngs() -> Iterator[PictureFile]:
    pixels = drawing(*_SIZE)
    slope = np.linspace(0, 65535, 11 * 13).reshape(11, 13).astype(np.uint16)
    yield PictureFile("PNG, grey, 16 bits", _saved(Image.fromarray(slope), "PNG"))
    palette = Image.fromarray(pixels).quantize(6)
    yield PictureFile("PNG, palette with transparency", _saved(palette, "PNG", transparency=bytes([0, 90, 200])))
    alpha = np.broadcast_to(np.linspace(0, 255, _SIZE[0]), pixels.shape[:2]).astype(np.uint8)
    yield PictureFile("PNG, alpha", _saved(Image.fromarray(np.dstack([_flat(pixels), alpha])), "PNG"))
    yield PictureFile("PNG, EXIF orientation 7", _saved(Image.fromarray(_flat(pixels)), "PNG", exif=_exif(7)))
    yield PictureFile("PNG, 61 x 1", _saved(Image.fromarray(drawing(61, 1)), "PNG"))


def _others() -> Iterator[PictureFile]:
    pixels = drawing(*_SIZE)
    scene = Image.fromarray(pixels)
    if features.check("webp"):
        yield PictureFile("WebP, lossy", _saved(scene, "WEBP", quality=60))
    yield PictureFile("GIF, transparent", _saved(scene.quantize(6), "GIF", transparency=1))
    if features.check("libtiff"):
        image, tags = Image.fromarray(_flat(pixels)), {_ORIENTATION: 4}
        yield PictureFile("TIFF, orientation 4", _saved(image, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags))


def _flat(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Few colours, which lossless formats store in few bytes."""
    return pixels // 96 * 96


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    settings = _SETTINGS.get(kind, {})
    stream = io.BytesIO()
    image.save(stream, kind, **{**settings, **options})
    return stream.getvalue()
