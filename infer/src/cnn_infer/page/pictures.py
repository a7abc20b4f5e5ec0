"""Thumbnails of pictures, inside the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 160
"""Longest side of a thumbnail, in pixels; smaller pictures keep their size."""

TINY = 64
"""Pictures up to this size, in pixels, are enlarged without blurring."""

QUALITY = 82


class Thumbnail(NamedTuple):
    """A picture in the page.

    Attributes:
        uri: Its JPEG file as a ``data:`` URI.
        width: Pixels of the thumbnail.
        height: Pixels of the thumbnail.
        tiny: Whether it is enlarged without blurring.
    """

    uri: str
    width: int
    height: int
    tiny: bool


def thumbnail(image: Image, side: int = SIDE) -> Thumbnail:
    """Return the thumbnail of a PIL image of mode L or RGB, with sides of at most ``side`` pixels."""
    small = image.copy()
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY if max(small.size) > TINY else 95)
    text = base64.b64encode(file.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{text}", *small.size, max(small.size) <= TINY)


def at_side(image: Image, side: int) -> Image:
    """Return a PIL image of mode L or RGB with a longest side of about ``side`` pixels; a small one is not blurred."""
    if max(image.size) < side:
        factor = side // max(image.size)
        return image.resize((image.width * factor, image.height * factor), resample=0)
    small = image.copy()
    small.thumbnail((side, side))
    return small
