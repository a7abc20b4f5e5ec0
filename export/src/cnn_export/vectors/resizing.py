"""Vectors of the resize alone: pictures of noise, resized with each filter in each mode to odd sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
from cnn_infer.pixels.resize import fitted, jpeg_divisor
from cnn_infer.spec import Colour, Filter, Resize, Spec
from numpy.typing import NDArray

_SIZES: tuple[tuple[Colour, tuple[int, int], tuple[int, int]], ...] = (
    ("rgb", (33, 47), (16, 12)),
    ("rgb", (29, 23), (32, 32)),
    ("rgb", (67, 5), (9, 11)),
    ("rgb", (16, 12), (16, 12)),
    ("grey", (1, 61), (8, 8)),
    ("grey", (61, 1), (7, 13)),
    ("grey", (3, 2), (28, 28)),
    ("grey", (101, 77), (5, 3)),
    ("grey", (28, 13), (28, 9)),
    ("grey", (31, 97), (24, 9)),
)
"""Colour, (width, height) of the picture, (width, height) of the result: smaller, larger, equal, one pixel, and one
whose columns Pillow 13 would resize first."""

_DIVIDED = (
    ((640, 480), (32, 32)),
    ((480, 640), (32, 32)),
    ((67, 69), (16, 16)),
    ((64, 64), (16, 16)),
    ((63, 64), (16, 16)),
    ((128, 2000), (32, 32)),
    ((4000, 3000), (224, 224)),
    ((1791, 1792), (224, 224)),
    ((333, 1000), (7, 13)),
    ((8, 3), (1, 1)),
    ((7, 7), (1, 1)),
)
"""(width, height) of upright JPEG files, and of models."""


class Resized(NamedTuple):
    """A picture and the result of its resize.

    Attributes:
        spec: Size, colour, filter and mode of the resize.
        picture: uint8 (height, width, 3), or (height, width) grey.
        pixels: The result, uint8, shape ``spec.shape``.
    """

    spec: Spec
    picture: NDArray[np.uint8]
    pixels: NDArray[np.uint8]


class Divided(NamedTuple):
    """The divisor by which a JPEG file is decoded.

    Attributes:
        spec: Size and mode of the model.
        width: Upright width of the file in pixels.
        height: Upright height of the file in pixels.
        divisor: 1, 2, 4 or 8.
    """

    spec: Spec
    width: int
    height: int
    divisor: int


def resized(spec: Spec) -> Iterator[Resized]:
    """Yield the vectors; they are the same for all models.

    Args:
        spec: Any specification. Its size, colour, filter and mode are replaced.
    """
    random = np.random.default_rng(0)
    for colour, (width, height), (to_width, to_height) in _SIZES:
        shape = (height, width, 3) if colour == "rgb" else (height, width)
        picture = random.choice(np.array([0, 1, 60, 128, 200, 254, 255], np.uint8), shape)
        sized = replace(spec, colour=colour, height=to_height, width=to_width)
        for mode in get_args(Resize):
            for name in get_args(Filter):
                asked = replace(sized, resize=mode, filter=name)
                yield Resized(asked, picture, fitted(picture, asked))


def divided(spec: Spec) -> Iterator[Divided]:
    """Yield the divisors of JPEG files of several sizes; they are the same for all models.

    Args:
        spec: Any specification. Its size and mode are replaced.
    """
    for (width, height), (to_width, to_height) in _DIVIDED:
        for mode in get_args(Resize):
            asked = replace(spec, height=to_height, width=to_width, resize=mode)
            yield Divided(asked, width, height, jpeg_divisor(width, height, asked))
