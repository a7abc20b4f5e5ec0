"""The arithmetic of ONNX Runtime's int8 kernels: exact integer sums, and the float32 operations that round them.

Sources: ``onnxruntime/core/providers/cpu/quantization/qlinearconv.cc``, ``contrib_ops/cpu/quantization/quant_gemm.cc``,
and in ``core/mlas/lib``: ``quantize.cpp`` (``MlasRequantizeOutput``), ``convsym.cpp``, ``qpostprocessor.cpp``,
``intrinsics/avx2/qladd_avx2.cpp`` and ``qlgavgpool.cpp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cnn_export.int8.saturation import LARGEST_ACTIVATION, OverflowingPair, overflowing_pairs, saturate

EXACT_FLOAT32 = 1 << 24
"""float32 holds all integers up to this one, so sums that stay below it are exact in every order."""

MOST_VALUES = 1 << 24
"""Largest number of activations that are laid out at a time for the matrix products of a convolution."""


@dataclass(frozen=True)
class Levels:
    """How integers represent the values of a tensor: ``(level - zero_point) * scale``.

    Attributes:
        scale: float32, a number or one per output channel.
        zero_point: The level of 0.
        dtype: torch.uint8 or torch.int8; torch.int32 for a bias, whose DequantizeLinear has no zero point.
    """

    scale: Tensor
    zero_point: int
    dtype: torch.dtype

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest level."""
        limits = torch.iinfo(self.dtype)
        return limits.min, limits.max


def quantize(values: Tensor, levels: Levels) -> Tensor:
    """Round float32 values to levels, as QuantizeLinear does: divide, round halves to even, add, saturate."""
    return _to_levels(values / levels.scale, levels)


def dequantize(values: Tensor, levels: Levels) -> Tensor:
    """Return the float32 values that levels represent."""
    return (values.int() - levels.zero_point).float() * levels.scale


def requantize(sums: Tensor, multiplier: Tensor, levels: Levels) -> Tensor:
    """Round integer sums to levels: one float32 product, rounded to even, plus the zero point, saturated.

    Args:
        sums: Integers, float64 of any shape.
        multiplier: Scale of the sums divided by that of the levels, float32; broadcasts against ``sums``.
        levels: Levels of the result.
    """
    return _to_levels(sums.float() * multiplier, levels)


def _to_levels(steps: Tensor, levels: Levels) -> Tensor:
    lowest, highest = levels.ends
    clipped = steps.clamp(lowest - levels.zero_point, highest - levels.zero_point)
    return (torch.round(clipped) + levels.zero_point).to(levels.dtype)


class Products:
    """The sums of products of a layer's weights with activations, in groups, in exact integers.

    Args:
        weights: int8 (groups, filters of a group, rows).
        order: The rows in the order in which the kernel adds them, for the saturating kernels; None for exact sums.
    """

    def __init__(self, weights: Tensor, order: Tensor | None) -> None:
        largest = LARGEST_ACTIVATION * int(weights.abs().sum(dim=2, dtype=torch.int64).max())
        self._weights = weights.float() if largest < EXACT_FLOAT32 else weights.double()
        self._totals = weights.sum(dim=2, keepdim=True, dtype=torch.int64)
        self._pairs: list[list[OverflowingPair]] = []
        if order is not None:
            self._pairs = [overflowing_pairs(group, order) for group in self._weights]

    def __call__(self, activations: Tensor, zero_point: int) -> Tensor:
        """Return the sums of (activation - zero point) * weight.

        Args:
            activations: Levels as float32 (n, groups, rows, positions).
            zero_point: Level of 0.

        Returns:
            Integers, float64 (n, groups, filters of a group, positions).
        """
        values = activations.to(self._weights.dtype)
        sums = torch.matmul(self._weights, values)
        for index, pairs in enumerate(self._pairs):
            saturate(sums[:, index], values[:, index], pairs)
        return sums.double() - zero_point * self._totals


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution or pooling over (height, width).

    Attributes:
        kernel: Its height and width.
        strides: Steps between positions.
        dilations: Distances between the pixels of a window.
        pads: Added rows and columns: top, left, bottom, right.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def padded(self, values: Tensor, value: float) -> Tensor:
        """Pad float32 (n, c, h, w)."""
        top, left, bottom, right = self.pads
        return functional.pad(values, (left, right, top, bottom), value=value) if any(self.pads) else values

    def output_size(self, padded: Tensor) -> tuple[int, int]:
        """Number of positions in each direction."""
        height, width = (
            (size - dilation * (side - 1) - 1) // step + 1
            for size, dilation, side, step in zip(
                padded.shape[2:], self.dilations, self.kernel, self.strides, strict=True
            )
        )
        return height, width


class Convolution:
    """A quantized convolution (``QLinearConv``).

    Args:
        weights: int8 (filters, channels of a group, kernel height, kernel width).
        bias: int32 (filters,).
        multiplier: Product of the scales of input and weights, divided by the scale of the output: float32, a number or
            one per filter.
        window: Its window.
        groups: Number of groups of channels.
        saturates: Whether sums of two products saturate.
    """

    def __init__(
        self, weights: Tensor, bias: Tensor, multiplier: Tensor, window: Window, groups: int, *, saturates: bool
    ) -> None:
        filters, channels = weights.shape[:2]
        self._window, self._groups = window, groups
        rows = weights.reshape(groups, filters // groups, -1)
        depthwise = groups > 1 and channels == filters // groups == 1
        # the kernel adds by kernel row, kernel column, input channel; rows are by channel first
        order = torch.arange(rows.shape[2]).reshape(channels, -1).T.flatten()
        self._products = Products(rows, order if saturates and not depthwise else None)
        self._bias = bias.double().reshape(groups, -1, 1)
        self._multiplier = multiplier.reshape(groups, -1, 1) if multiplier.numel() > 1 else multiplier

    def __call__(self, values: Tensor, zero_point: int, result: Levels) -> Tensor:
        """Return the output levels (n, filters, h, w) for input levels (n, c, h, w)."""
        padded = self._window.padded(values.float(), zero_point)
        height, width = self._window.output_size(padded)
        each = padded.shape[1] * self._window.kernel[0] * self._window.kernel[1] * height * width
        parts = [self._part(part, zero_point, result) for part in torch.split(padded, max(1, MOST_VALUES // each))]
        return torch.cat(parts).reshape(len(padded), -1, height, width)

    def _part(self, padded: Tensor, zero_point: int, result: Levels) -> Tensor:
        window = self._window
        columns = functional.unfold(padded, window.kernel, window.dilations, 0, window.strides)
        rows = columns.reshape(len(columns), self._groups, -1, columns.shape[2])
        sums = self._products(rows, zero_point) + self._bias
        return requantize(sums, self._multiplier, result)


def max_pool(values: Tensor, window: Window, *, ceil_mode: bool) -> Tensor:
    """Return the largest level of each window (n, c, h, w)."""
    pooled = functional.max_pool2d(
        window.padded(values.float(), -torch.inf), window.kernel, window.strides, 0, window.dilations, ceil_mode
    )
    return pooled.to(values.dtype)


def global_average(values: Tensor, source: Levels, result: Levels) -> Tensor:
    """Return the mean of each channel (n, c, 1, 1), in the levels of the result (``QLinearGlobalAveragePool``)."""
    pixels = values.shape[2] * values.shape[3]
    sums = values.sum(dim=(2, 3), keepdim=True, dtype=torch.int64) - source.zero_point * pixels
    multiplier = source.scale / (result.scale * pixels)
    return requantize(sums.double(), multiplier, result)


def add(values: Sequence[Tensor], sources: Sequence[Levels], result: Levels) -> Tensor:
    """Return the sum of two tensors of the same shape in the levels of the result (``QLinearAdd``).

    Fused multiply-adds in float32, the second input first: the form of AVX2 (:mod:`cnn_export.int8.rounding`).
    """
    ratios = [source.scale / result.scale for source in sources]
    zeros = ratios[0].double() * sources[0].zero_point + (ratios[1] * sources[1].zero_point).double()
    total = result.zero_point - zeros.float()
    for tensor, ratio in zip(reversed(values), reversed(ratios), strict=True):
        # the product has 32 bits and the sum at most 53, so float64 is exact and rounds once
        total = (tensor.double() * ratio.double() + total.double()).float()
    lowest, highest = result.ends
    return torch.round(total).clamp(lowest, highest).to(result.dtype)
