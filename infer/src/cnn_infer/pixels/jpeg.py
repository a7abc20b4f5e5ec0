"""JPEG files by libjpeg-turbo itself: the pixels that Pillow gives, without what Pillow does in Python for each file.

That takes seven times as long as it takes to decode 32 x 32 pixels, and other threads must wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import simplejpeg

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnn_infer.spec import Colour

MAGIC = b"\xff\xd8\xff"
"""What a JPEG file begins with."""

_COLOURS: dict[str, Colour] = {"Gray": "grey", "YCbCr": "rgb", "RGB": "rgb"}  # CMYK and YCCK are left to Pillow
_BLOCK = 8


class Header(NamedTuple):
    """What a JPEG file says of its pixels as they are stored."""

    width: int
    height: int
    colour: Colour


def read_header(data: bytes) -> Header | None:
    """Size and colour, or None where Pillow has to say what is wrong with the file or to convert its colours."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return Header(width, height, _COLOURS[space]) if space in _COLOURS else None


def decode(data: bytes, header: Header, divisor: int) -> NDArray[np.uint8] | None:
    """The pixels, scaled down by ``divisor`` (1, 2, 4 or 8) while they are decoded, sides rounded up.

    Returns:
        uint8 (height, width, 3) or, of grey files, (height, width); None where libjpeg-turbo has anything to remark,
        such as an early end: Pillow decides what to make of it.
    """
    grey = header.colour == "grey"
    width, height = -(-header.width // divisor), -(-header.height // divisor)
    try:
        found = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    pixels: NDArray[np.uint8] = found
    return pixels[:, :, 0] if grey else pixels


def divisors(width: int, height: int) -> tuple[int, ...]:
    """By what a picture can be scaled down while it is decoded, the most first."""
    # simplejpeg is told the size that is wanted; below a block it does not tell which of its scales gives that
    return (8, 4, 2) if max(width, height) >= _BLOCK else ()
