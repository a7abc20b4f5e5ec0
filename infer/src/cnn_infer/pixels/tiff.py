"""TIFF files: depth, photometric interpretation and colour map are read from the file.

(TIFF, revision 6.0, 1992.) Kinds that are not listed here are refused by name, because Pillow opens some of them and
gives wrong pixels without an error.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImagePalette
from PIL.TiffImagePlugin import TiffImageFile as TiffImageFile

from cnn_infer.errors import PictureError
from cnn_infer.pixels.depth import eight_bits

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _COLOUR_MAP, _EXTRA, _SAMPLE_FORMAT = 258, 259, 262, 284, 320, 338, 339
_UNCOMPRESSED, _SEPARATE_PLANES, _UNASSOCIATED_ALPHA = 1, 2, 2

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {
    _WHITE_IS_ZERO: "grey",
    _BLACK_IS_ZERO: "grey",
    _RGB: "RGB",
    _PALETTE: "palette",
    4: "mask",
    _CMYK: "CMYK",
    _YCBCR: "YCbCr",
    8: "CIELab",
    9: "ICCLab",
    32803: "colour filter array",
    34892: "linear raw",
}

_UNSIGNED = 1
_FORMATS = {_UNSIGNED: "", 2: "signed ", 3: "floating-point ", 4: "untyped ", 5: "complex ", 6: "complex "}

_DEPTHS = {
    _WHITE_IS_ZERO: {1, 2, 4, 8, 16},
    _BLACK_IS_ZERO: {1, 2, 4, 8, 12, 16},
    _RGB: {8, 16},
    _PALETTE: {1, 2, 4, 8},
    _CMYK: {8, 16},
    _YCBCR: {8},
}
"""Supported bits per sample, by photometric interpretation."""


def open_tiff(data: bytes) -> TiffImageFile:
    """Open a TIFF file.

    Raises:
        PictureError: the kind of its samples is not supported.
    """
    if data.startswith(b"MM\0+"):
        raise _not_supported("BigTIFF with the most significant byte first")
    try:
        image = TiffImageFile(io.BytesIO(data))
    except (SyntaxError, IndexError) as error:
        if "unknown pixel mode" not in str(error) and "index out of range" not in str(error):
            raise
        raise _not_supported("this kind of TIFF") from error
    photometric = int(image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO))
    bits = _values(image, _BITS, 1)
    formats = _values(image, _SAMPLE_FORMAT, _UNSIGNED)
    if set(formats) != {_UNSIGNED} or not set(bits) <= _DEPTHS.get(photometric, set()):
        depth = " and ".join(str(number) for number in sorted(set(bits)))
        kind = _NAMES.get(photometric, f"photometric interpretation {photometric}")
        number = "".join(sorted({_FORMATS.get(one, f"format {one} ") for one in formats}))
        raise _not_supported(f"TIFF with {number}samples of {depth} bits ({kind})")
    if image.tag_v2.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and not _has_readable_planes(image, bits):
        raise _not_supported(f"uncompressed TIFF with a plane for each sample of {bits[0]} bits")
    if photometric == _PALETTE:
        _set_palette(image)
    return image


def _not_supported(kind: str) -> PictureError:
    return PictureError(f"{kind} is not supported: save it as grey or RGB, with 8 or 16 bits a sample side by side")


def _has_readable_planes(image: TiffImageFile, bits: tuple[int, ...]) -> bool:
    """Pillow reads separate planes of bytes; it gives wrong pixels for 16 bits, without an error."""
    if image.tag_v2.get(_PLANAR, 1) != _SEPARATE_PLANES or len(bits) == 1:
        return True
    return set(bits) == {8} and set(_values(image, _EXTRA, _UNASSOCIATED_ALPHA)) == {_UNASSOCIATED_ALPHA}


def finish_tiff(image: TiffImageFile) -> Image.Image:
    """Decode the pixels. Grey values of 12 and 16 bits become 8 bits, with black as zero."""
    bits = _values(image, _BITS, 1)
    inverted = int(image.tag_v2.get(_PHOTOMETRIC, _WHITE_IS_ZERO)) == _WHITE_IS_ZERO
    image.load()
    if image.mode != "I;16":  # Pillow itself inverts up to 8 bits
        return image
    grey = eight_bits(np.asarray(image), bits[0])
    return Image.fromarray(255 - grey if inverted else grey)


def _values(image: TiffImageFile, tag: int, default: int) -> tuple[int, ...]:
    found: Any = image.tag_v2.get(tag, default)
    return tuple(int(value) for value in found) if isinstance(found, tuple) else (int(found),)


def _set_palette(image: TiffImageFile) -> None:
    """Use the colour map unscaled if all its values are below 256: some writers store 8 bits, as libtiff assumes."""
    values = np.array(image.tag_v2.get(_COLOUR_MAP, ()), np.uint32)
    if values.size and values.max() < 256:
        image.palette = ImagePalette.raw("RGB", values.reshape(3, -1).T.astype(np.uint8).tobytes())
