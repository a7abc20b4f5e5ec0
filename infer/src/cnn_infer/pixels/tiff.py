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
from cnn_infer.pixels.tiff_directory import (
    BITS,
    COLOUR_MAP,
    COMPRESSION,
    EXTRA,
    FILL_ORDER,
    PHOTOMETRIC,
    PLANAR,
    SAMPLE_FORMAT,
    SAMPLES,
    SUBSAMPLING,
    Directory,
    read_directory,
    with_directory,
)

_UNCOMPRESSED, _SIDE_BY_SIDE, _SEPARATE_PLANES, _LOWEST_BIT_FIRST, _ALPHA = 1, 1, 2, 2, 2
_HALVED = 2
"""Subsampling of a YCbCr file that does not say it, along both axes."""

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
    _WHITE_IS_ZERO: {1, 2, 4, 8, 12, 16},
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
    directory = read_directory(data)
    photometric = directory.get(PHOTOMETRIC, (_WHITE_IS_ZERO,))[0]
    _check_samples(directory, photometric)
    try:
        image = TiffImageFile(io.BytesIO(_for_pillow(data, directory)))
    except (SyntaxError, IndexError) as error:
        if "unknown pixel mode" not in str(error) and "index out of range" not in str(error):
            raise
        raise _not_supported("this kind of TIFF") from error
    image.tag_v2[PHOTOMETRIC] = photometric  # finish_tiff needs what the file says
    if image.tag_v2.get(COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        _check_uncompressed(image, photometric)
    if photometric == _PALETTE:
        _set_palette(image)
    return image


def _check_samples(directory: Directory, photometric: int) -> None:
    """Refuse samples that are not on the list, by their depth, format and meaning."""
    bits = set(directory.get(BITS, (1,)))
    formats = set(directory.get(SAMPLE_FORMAT, (_UNSIGNED,)))
    if formats != {_UNSIGNED} or not bits <= _DEPTHS.get(photometric, set()):
        depth = " and ".join(map(str, sorted(bits)))
        kind = _NAMES.get(photometric, f"photometric interpretation {photometric}")
        number = "".join(sorted({_FORMATS.get(one, f"format {one} ") for one in formats}))
        raise _not_supported(f"TIFF with {number}samples of {depth} bits ({kind})")


def _for_pillow(data: bytes, directory: Directory) -> bytes:
    """Return the file with another directory if Pillow has no name for its samples, or cannot read the directory.

    Samples of 12 bits are packed in the same way in both byte orders. Where white is zero, :func:`finish_tiff` inverts.
    One sample is one plane, even if the file names it separate.
    """
    changed, big_endian = dict(directory), data.startswith(b"MM")
    bits = directory.get(BITS, (1,))
    if bits == (12,):
        big_endian = False
    if bits in ((12,), (16,)) and directory.get(PHOTOMETRIC, (_WHITE_IS_ZERO,)) == (_WHITE_IS_ZERO,):
        changed[PHOTOMETRIC] = (_BLACK_IS_ZERO,)
    if directory.get(SAMPLES, (1,)) == (1,) and directory.get(PLANAR) == (_SEPARATE_PLANES,):
        changed[PLANAR] = (_SIDE_BY_SIDE,)
    if changed == directory and big_endian == data.startswith(b"MM") and not data.startswith(b"MM\0+"):
        return data
    return with_directory(data, changed, big_endian=big_endian)


def _not_supported(kind: str) -> PictureError:
    return PictureError(f"{kind} is not supported: save it as grey or RGB, with 8 or 16 bits a sample side by side")


def _check_uncompressed(image: TiffImageFile, photometric: int) -> None:
    """Refuse what Pillow, which reads these files without libtiff, gives wrong pixels for, often without an error."""
    bits = _values(image, BITS, 1)
    separate = _values(image, SAMPLES, 1) != (1,) and _values(image, PLANAR, _SIDE_BY_SIDE) == (_SEPARATE_PLANES,)
    reversed_bits = _values(image, FILL_ORDER, 1) == (_LOWEST_BIT_FIRST,)
    if photometric == _YCBCR and (separate or _values(image, SUBSAMPLING, _HALVED) != (1, 1)):
        raise _not_supported("uncompressed TIFF of YCbCr with fewer samples of colour, or with a plane for each sample")
    if separate and (set(bits) != {8} or set(_values(image, EXTRA, _ALPHA)) != {_ALPHA}):
        raise _not_supported(f"uncompressed TIFF with a plane for each sample of {bits[0]} bits")
    if reversed_bits and (separate or (photometric == _PALETTE and bits[0] < 8)):
        raise _not_supported("uncompressed TIFF with the lowest bit of each byte first")


def finish_tiff(image: TiffImageFile) -> Image.Image:
    """Decode the pixels. Grey values of 12 and 16 bits become 8 bits, with black as zero."""
    bits = _values(image, BITS, 1)
    inverted = int(image.tag_v2.get(PHOTOMETRIC, _WHITE_IS_ZERO)) == _WHITE_IS_ZERO
    image.load()
    if not image.mode.startswith("I;16"):  # Pillow itself inverts up to 8 bits
        return image
    grey = eight_bits(np.asarray(image), bits[0])
    return Image.fromarray(255 - grey if inverted else grey)


def _values(image: TiffImageFile, tag: int, default: int) -> tuple[int, ...]:
    found: Any = image.tag_v2.get(tag, default)
    return tuple(int(value) for value in found) if isinstance(found, tuple) else (int(found),)


def _set_palette(image: TiffImageFile) -> None:
    """Use the colour map unscaled if all its values are below 256: some writers store 8 bits, as libtiff assumes."""
    values = np.array(image.tag_v2.get(COLOUR_MAP, ()), np.uint32)
    if values.size and values.max() < 256:
        image.palette = ImagePalette.raw("RGB", values.reshape(3, -1).T.astype(np.uint8).tobytes())
