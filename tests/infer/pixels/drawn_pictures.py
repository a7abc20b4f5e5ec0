"""Samples of drawn files, the pixels that follow from them, and ours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from cnn_infer import Spec, read_header, to_pixels
from numpy.typing import NDArray

HEIGHT, WIDTH = 9, 13
RNG = np.random.default_rng(0)
WHITE = 255.0


class Drawn(NamedTuple):
    """A file, its right RGB pixels, float (height, width, 3), and how far rounding may take a decoder from them."""

    name: str
    data: bytes
    pixels: NDArray[np.float64]
    tolerance: float = 1.0


def samples(bits: int, count: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.int64]:
    """Random samples in which the extremes and one repeated value occur."""
    most = (1 << bits) - 1
    drawn = RNG.integers(0, most + 1, (height, width, count))
    drawn[0, 0], drawn[0, 1], drawn[1:3] = 0, most, most // 3
    return drawn


def in_bytes(values: NDArray[np.int64], bits: int) -> NDArray[np.float64]:
    """Samples in the range from 0 to 255."""
    return values * (WHITE / ((1 << bits) - 1))


def rgb(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.repeat(grey[:, :, :1], 3, axis=2)


def on_white(colours: NDArray[np.float64], alpha: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours and alpha, both 0 to 255."""
    return colours * alpha / WHITE + WHITE - alpha


def of_ink(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cyan, magenta, yellow and black, all 0 to 255."""
    return (WHITE - ink[:, :, :3]) * (WHITE - ink[:, :, 3:]) / WHITE


def found(data: bytes) -> NDArray[np.float64]:
    """The RGB pixels that we make of a file, at its size."""
    header = read_header(data)
    spec = Spec(("a", "b"), header.height, header.width, "rgb", "squash", "bilinear", 0, 1.0)
    return to_pixels(data, spec).astype(float)
