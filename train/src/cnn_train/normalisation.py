"""What the pictures are normalised by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_and_deviation(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Of all pixel values of uint8 pictures (n, h, w, c), in pixel values.

    From their histogram: exact, and a few megabytes of pictures in memory at a time.
    """
    counts = np.zeros(256, np.int64)
    block = max(1, (4 << 20) // images[0].size)
    for start in range(0, len(images), block):
        counts += np.bincount(images[start : start + block].ravel(), minlength=256)
    values = np.arange(256)
    mean = float((counts * values).sum() / counts.sum())
    return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
