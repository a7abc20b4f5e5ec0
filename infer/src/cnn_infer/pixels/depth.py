"""Grey values of more than 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def eight_bits(values: NDArray[np.unsignedinteger[Any]], bits: int = 16) -> NDArray[np.uint8]:
    """Scale values of ``bits`` bits, up to 16, to the range from 0 to 255, rounded to the nearest; uint8."""
    most = (1 << bits) - 1
    scaled: NDArray[np.uint8] = ((values.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    return scaled
