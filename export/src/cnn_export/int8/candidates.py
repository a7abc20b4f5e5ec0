"""The candidates of an int8 search: which recipes are tried, what each result is, and which one is best."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnn_export.int8.quantize import Recipe
from cnn_export.int8.ranges import METHODS
from cnn_export.int8.verdict import Difference, Timing, Verdict

SAME_SPEED = 0.05
"""Speed-ups within this share of each other count as equal: two measurements of one file differ that much."""


@dataclass(frozen=True)
class Candidate:
    """One int8 model and its evaluation.

    Attributes:
        name: The recipe in words.
        floats: Names of the nodes that the recipe keeps in fp32.
        strays: Nodes between quantized ones that ONNX Runtime runs in fp32 although the recipe quantizes them, each
            with the reason.
        bytes: Size of the file without golden pictures.
        sha256: Digest of these bytes; equal runs make equal candidates.
        divergence: Mean KL divergence of its validation probabilities from those of fp32, in nats.
        validation: Comparison with fp32 on the validation pictures.
        latency: Speed on this machine, one entry per batch size; empty if it was not measured, because the model is for
            other processors.
        verdict: Whether it may ship, and why.
    """

    name: str
    floats: tuple[str, ...]
    strays: tuple[str, ...]
    bytes: int
    sha256: str
    divergence: float
    validation: Difference
    latency: list[Timing]
    verdict: Verdict

    @property
    def speedup(self) -> float | None:
        """The smallest speed-up over fp32 among the batch sizes; None if it was not measured."""
        return min((entry.speedup for entry in self.latency), default=None)


def fully_int8() -> Iterator[Recipe]:
    """All recipes that keep no layer in fp32, the most promising first."""
    for per_channel in (True, False):
        for correct in (False, True):
            for ranges in METHODS:
                yield Recipe(ranges, per_channel, correct)


def divergence(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Mean KL divergence of rows of probabilities, in nats.

    Args:
        reference: float32 (n, classes).
        found: float32 (n, classes); the result is infinite if a value is not finite.
    """
    if not np.isfinite(found).all():
        return math.inf
    p, q = (np.maximum(values.astype(np.float64), 1e-12) for values in (reference, found))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def closest(candidates: Sequence[Candidate]) -> int:
    """The index of the candidate with the smallest divergence from fp32."""
    return min(range(len(candidates)), key=lambda index: candidates[index].divergence)


def choose(candidates: Sequence[Candidate]) -> int:
    """The index of the best candidate.

    Among the candidates that may ship and are about as fast as the fastest of them, the one with the smallest
    divergence. The probabilities decide, not the number of lost pictures: with many candidates, the one that loses the
    fewest is often just lucky. Where the speed was not measured, all count as equally fast. If none may ship: the
    fastest of those that are accurate enough, or else the one with the smallest divergence.
    """
    indices = range(len(candidates))
    speeds = [candidate.speedup or 1.0 for candidate in candidates]
    accepted = [index for index in indices if not candidates[index].verdict.rejected]
    if accepted:
        fastest = max(speeds[index] for index in accepted)
        fast = [index for index in accepted if speeds[index] >= (1 - SAME_SPEED) * fastest]
        return min(fast, key=lambda index: candidates[index].divergence)
    good = [index for index in indices if candidates[index].verdict.good_enough]
    if good:
        return max(good, key=lambda index: speeds[index])
    return closest(candidates)
