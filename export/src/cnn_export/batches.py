"""Pictures in batches, as a session of ONNX Runtime takes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def batches(pictures: NDArray[np.uint8], size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures, uint8 (n, height, width, channels), in contiguous batches of ``size`` or fewer."""
    for start in range(0, len(pictures), size):
        yield np.ascontiguousarray(pictures[start : start + size])
