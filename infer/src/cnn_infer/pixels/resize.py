"""The geometry of :func:`cnn_infer.to_pixels`: how a decoded picture becomes one of the model's size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cnn_infer.pixels import jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Filter, Spec

    DecodedPicture = Image.Image | NDArray[np.uint8]
    """A picture that is not resized yet: a PIL image, or an array, uint8 (h, w) or (h, w, 3)."""

PADDING = 128
"""The value of the pixels that ``pad`` adds around a picture, in every channel: mid-grey."""

_FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def image_of(picture: DecodedPicture) -> Image.Image:
    """Return the picture as a PIL image; an array must be uint8, (h, w) or (h, w, 3)."""
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture


def jpeg_divisor(width: int, height: int, spec: Spec) -> int:
    """Return 1, 2, 4 or 8: the largest divisor that leaves a JPEG at least twice the size it is resized to.

    Args:
        width: Upright width in pixels.
        height: Upright height in pixels.
        spec: The model's specification.
    """
    across, down = source_ratio(width, height, spec)
    # without 1e-6 a rounding error above a whole number would be rounded up to one pixel more
    least = (math.ceil(2 * width / across - 1e-6), math.ceil(2 * height / down - 1e-6))
    fitting = (by for by in jpeg.divisors(width, height) if width >= by * least[0] and height >= by * least[1])
    return next(fitting, 1)


def source_ratio(width: int, height: int, spec: Spec) -> tuple[float, float]:
    """Return how many source pixels one target pixel covers, horizontally and vertically."""
    across, down = width / spec.width, height / spec.height
    if spec.resize == "crop":
        across = down = min(across, down)
    elif spec.resize == "pad":
        across = down = max(across, down)
    return across, down


def fitted(decoded: DecodedPicture, spec: Spec) -> NDArray[np.uint8]:
    """Resize a decoded picture to the model's size with antialiasing, with crop or padding.

    Returns:
        uint8, shape ``spec.shape``.
    """
    if isinstance(decoded, np.ndarray) and decoded.shape[:2] == spec.shape[:2]:
        return decoded.reshape(spec.shape)
    image = image_of(decoded)
    width, height = image.size
    if (width, height) != (spec.width, spec.height):
        across, down = source_ratio(width, height, spec)
        resampling = _FILTERS[spec.filter]
        if spec.resize == "pad":
            inner = (max(1, round(width / across)), max(1, round(height / down)))
            canvas = Image.new(image.mode, (spec.width, spec.height), (PADDING,) * len(image.getbands()))
            whole = resampled(image, inner, resampling, (0, 0, width, height))
            canvas.paste(whole, ((spec.width - inner[0]) // 2, (spec.height - inner[1]) // 2))
            image = canvas
        else:
            left = (width - spec.width * across) / 2
            top = (height - spec.height * down) / 2
            box = (max(0.0, left), max(0.0, top), min(width, width - left), min(height, height - top))
            image = resampled(image, (spec.width, spec.height), resampling, box)
    return np.asarray(image).reshape(spec.shape)


def resampled(
    image: Image.Image,
    size: tuple[int, int],
    resampling: Image.Resampling,
    box: tuple[float, float, float, float],
) -> Image.Image:
    """Resize a part of an image: first each row to the new width, then each column to the new height.

    Each pass rounds to 8 bits, so the order changes pixels. Pillow 13 starts with the columns where the height shrinks
    by more than twice as many pixels as the width, and earlier versions never do: such a picture takes two calls.

    Args:
        image: The image.
        size: The new width and height.
        resampling: Pillow's filter.
        box: The part as (left, top, right, bottom) in pixels of the image.
    """
    left, top, right, bottom = box
    if image.height - size[1] <= 2 * (image.width - size[0]):
        return image.resize(size, resampling, box)
    narrow = image.resize((size[0], image.height), resampling, (left, 0, right, image.height))
    return narrow.resize(size, resampling, (0, top, size[0], bottom))
