"""How processors round the sum of two int8 tensors (``QLinearAdd``): in three ways, which rarely differ by one level.

ONNX Runtime's MLAS library adds in float32 with fused multiply-adds on x86 processors with AVX2, in float32 without
them on other x86 processors, and in fixed point on Arm. Other processors run plain C++. The results differ where a sum
lies so close to the middle between two levels that the last bit of float32 decides. Two tensors have 65,536 pairs of
levels only, so all of them can be tried.

Sources in ``onnxruntime/core/mlas/lib``: ``intrinsics/avx2/qladd_avx2.cpp`` and ``qladd.cpp``. A compiler may fuse a
product and the sum after it: GCC does for AVX2, others do not. Both count as forms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

HIGHEST = 255
"""Largest level of an unsigned tensor."""

STEP = 1e-5
"""Relative step between two scales that are tried. It moves sums by more than the forms differ."""

STEPS = 200
"""Largest number of steps: the range becomes wider by 0.2% at most."""

TOLERANCE = 2.0**-20
"""Bound of the rounding errors of all forms, relative to the largest value on the way to a sum."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Unsigned:
    """How levels from 0 to 255 represent the values of a tensor: ``(level - zero_point) * scale``.

    Attributes:
        scale: Its step.
        zero_point: The level of 0.
    """

    scale: np.float32
    zero_point: int


def agreeing(first: Unsigned, second: Unsigned, result: Unsigned) -> Unsigned | None:
    """Return levels of the result, with a range as wide as that of ``result`` or a little wider, for which all forms
    agree; None if there are none within :data:`STEPS` steps.
    """
    for step in range(STEPS + 1):
        tried = replace(result, scale=np.float32(float(result.scale) * (1 + step * STEP)))
        if not disagreements(first, second, tried):
            return tried
    return None


def disagreements(first: Unsigned, second: Unsigned, result: Unsigned) -> int:
    """Return the number of pairs of levels whose sum the forms round to different levels, of 65,536."""
    a, b = _undecided(first, second, result)
    found = np.stack([levels for _, levels in forms(first, second, result, a, b)])
    return int((found != found[0]).any(axis=0).sum())


def forms(
    first: Unsigned, second: Unsigned, result: Unsigned, a: NDArray[np.uint8], b: NDArray[np.uint8]
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name of each form and the levels that it computes.

    Args:
        first: Levels of the first tensor.
        second: Levels of the second tensor.
        result: Levels of the sum.
        a: Levels in the first tensor, uint8 (n,).
        b: Levels in the second tensor, uint8 (n,).
    """
    ratios = first.scale / result.scale, second.scale / result.scale
    for fused, offset in _offsets(ratios, first, second, result):
        total = _fused(b, ratios[1], np.full(len(b), offset))
        yield f"AVX2, {fused}", _saturated(np.rint(_fused(a, ratios[0], total)))
        total = (offset + a.astype(np.float32) * ratios[0]) + b.astype(np.float32) * ratios[1]
        yield f"SSE, {fused}", _saturated(np.rint(total))
    fixed = _fixed_point(ratios, first, second, result, a, b)
    if fixed is not None:
        yield "NEON", fixed
    for fused, total in _values(first, second, a, b):
        steps = (total / result.scale).clip(-result.zero_point, HIGHEST - result.zero_point)
        yield f"C++, {fused}", _saturated(np.rint(steps + np.float32(result.zero_point)))


def _offsets(
    ratios: tuple[np.float32, np.float32], first: Unsigned, second: Unsigned, result: Unsigned
) -> Iterator[tuple[str, np.float32]]:
    """Yield the part of a sum that does not depend on its levels: zero points in steps of the result."""
    zeros = np.float32(first.zero_point), np.float32(second.zero_point)
    products = ratios[0] * zeros[0], ratios[1] * zeros[1]
    level = np.float32(result.zero_point)
    yield "nothing fused", level - (products[0] + products[1])
    yield "first product fused", level - np.float32(float(ratios[0]) * float(zeros[0]) + float(products[1]))
    yield "second product fused", level - np.float32(float(ratios[1]) * float(zeros[1]) + float(products[0]))


def _values(
    first: Unsigned, second: Unsigned, a: NDArray[np.uint8], b: NDArray[np.uint8]
) -> Iterator[tuple[str, Floats]]:
    """Yield the sums as values, float32 (n,)."""
    left, right = a.astype(np.float32) - first.zero_point, b.astype(np.float32) - second.zero_point
    yield "nothing fused", left * first.scale + right * second.scale
    yield "first product fused", _fused(left, first.scale, right * second.scale)
    yield "second product fused", _fused(right, second.scale, left * first.scale)


def _fixed_point(
    ratios: tuple[np.float32, np.float32],
    first: Unsigned,
    second: Unsigned,
    result: Unsigned,
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
) -> NDArray[np.uint8] | None:
    """Return the levels of the sums in fixed point: products with 22 bits, halves rounded away from 0.

    None if a ratio is too small or too large: then Arm runs plain C++.
    """
    shift = 22 - int(np.frexp(max(ratios))[1])
    factors = [int(np.rint(np.ldexp(np.float64(ratio), shift))) for ratio in ratios]
    small, large = min(ratios) < 2.0**-14, max(ratios) >= 2.0**8
    if small or large or not 13 <= shift <= 31 or max(factors) >= 1 << 22:
        return None
    sums = (a.astype(np.int64) - first.zero_point) * factors[0] + (b.astype(np.int64) - second.zero_point) * factors[1]
    rounded = (sums - (sums < 0) + (1 << (shift - 1))) >> shift
    return _saturated(rounded + result.zero_point)


def _undecided(first: Unsigned, second: Unsigned, result: Unsigned) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the pairs of levels whose sum lies so close to the middle between two levels that forms can differ.

    Returns:
        Levels in the first and in the second tensor, uint8 (n,) each.
    """
    levels = np.arange(HIGHEST + 1.0)
    ratios = float(first.scale) / float(result.scale), float(second.scale) / float(result.scale)
    sums = (levels[:, None] - first.zero_point) * ratios[0] + (levels - second.zero_point) * ratios[1]
    steps = sums + result.zero_point
    margin = TOLERANCE * 2 * (HIGHEST + 1) * (1 + sum(ratios))
    close = np.abs(steps - np.floor(steps) - 0.5) <= margin
    inside = (steps > -1 - margin) & (steps < HIGHEST + 1 + margin)
    a, b = np.nonzero(close & inside)
    return a.astype(np.uint8), b.astype(np.uint8)


def _fused(levels: NDArray[np.generic], factor: np.float32, added: Floats) -> Floats:
    """Return ``levels * factor + added``, rounded once: the product has at most 33 bits, so float64 holds the sum."""
    return (levels.astype(np.float64) * np.float64(factor) + added.astype(np.float64)).astype(np.float32)


def _saturated(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    return levels.clip(0, HIGHEST).astype(np.uint8)
