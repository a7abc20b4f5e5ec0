"""The sums of two products that saturate on x86 processors without VNNI.

There the int8 kernels of ONNX Runtime multiply with ``vpmaddubsw``: an instruction that multiplies unsigned activations
with signed weights, adds two neighbouring products and saturates the sum to 16 bits. Neighbours are the products 0 and
1, 2 and 3, and so on of a filter whose weights are in the order kernel row, kernel column, input channel (the layout of
``QLinearConv`` in ``onnxruntime/core/providers/cpu/quantization/qlinearconv.cc``; the packing in
``onnxruntime/core/mlas/lib/convsym.cpp`` and ``qgemm.h`` keeps it, because it takes 4 products at a time). Depthwise
convolutions have kernels that widen each product to 32 bits, so nothing saturates in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LOWEST, HIGHEST = -32768, 32767
"""Range of a sum of two products on such processors."""

LARGEST_ACTIVATION = 255


@dataclass(frozen=True)
class OverflowingPair:
    """A pair of neighbouring products that can leave 16 bits, in some of the filters of a layer.

    Attributes:
        first: Row of the first activation.
        second: Row of the second activation.
        filters: The filters, int64 (m,).
        weights: The two weights in each of them, float (m, 2).
    """

    first: int
    second: int
    filters: Tensor
    weights: Tensor


def overflowing_pairs(weights: Tensor, order: Tensor) -> list[OverflowingPair]:
    """Find the pairs that can leave 16 bits for some activations from 0 to 255.

    Args:
        weights: Weights of the filters, int8 values as float32 or float64 (filters, rows).
        order: Row of the 1st, 2nd, ... product in the order in which the kernel adds them, int64 (rows,). The last of
            an odd number has no neighbour, and cannot overflow alone.
    """
    pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
    both = weights[:, pairs]
    highest = LARGEST_ACTIVATION * both.clamp(min=0).sum(dim=2)
    lowest = LARGEST_ACTIVATION * both.clamp(max=0).sum(dim=2)
    overflows = (highest > HIGHEST) | (lowest < LOWEST)
    found = []
    for index in torch.nonzero(overflows.any(dim=0)).flatten().tolist():
        filters = torch.nonzero(overflows[:, index]).flatten()
        first, second = pairs[index].tolist()
        found.append(OverflowingPair(first, second, filters, both[filters, index]))
    return found


def saturate(sums: Tensor, activations: Tensor, pairs: list[OverflowingPair]) -> None:
    """Change exact sums in place to those of a processor that saturates sums of two products.

    Args:
        sums: Sums of all products of each filter, float (n, filters, positions).
        activations: 0 to 255 in the same type (n, rows, positions).
        pairs: From :func:`overflowing_pairs`.
    """
    for pair in pairs:
        first, second = (activations[:, row, None] for row in (pair.first, pair.second))
        product = first * pair.weights[:, :1] + second * pair.weights[:, 1:]
        excess = product - product.clamp(LOWEST, HIGHEST)
        sums.index_add_(1, pair.filters, excess, alpha=-1)
