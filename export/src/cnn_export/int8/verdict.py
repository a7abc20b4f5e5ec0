"""int8 against fp32: how many pictures it costs, what it brings in time, and whether it ships."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cnn_infer import Model
from cnn_infer.metrics import confusion_of, scores_of
from cnn_infer.model import INPUT, PROBABILITIES
from numpy.typing import NDArray
from scipy.stats import binomtest

MAX_DROP = 0.1
"""Percentage points of validation accuracy that int8 may lose unless told otherwise."""

MAX_FLIPS = 0.05
"""Share of the validation pictures that int8 may give another class than fp32 does. Two networks can be right equally
often and have little in common; what is right on some hundredths of the pictures only loses nothing by chance."""

MIN_SPEEDUP = 1.05
"""What int8 must reach to be called faster: the best of many candidates measures some percent too fast by chance."""

LATENCY_BATCHES = (1, 32)
MIN_SECONDS = 0.3
MIN_ROUNDS = 20


@dataclass(frozen=True)
class Difference:
    """Two models on the same labelled pictures.

    Attributes:
        images: How many.
        accuracy_fp32: 0 to 1.
        accuracy_int8: 0 to 1.
        macro_f1_fp32: 0 to 1.
        macro_f1_int8: 0 to 1.
        lost: Pictures that only fp32 gets right.
        won: Pictures that only int8 gets right.
        drop_points: fp32's accuracy minus int8's, in percentage points.
        drop_interval: 95% confidence interval of the paired difference, in percentage points (Agresti and Min,
            2005, Statistics in Medicine 24:729, with their added half counts).
        mcnemar_p: Exact two-sided p of McNemar's test (1947, Psychometrika 12:153).
        flips: Pictures whose class differs.
        constant: fp32 gives all pictures the same class, though they are not of one.
    """

    images: int
    accuracy_fp32: float
    accuracy_int8: float
    macro_f1_fp32: float
    macro_f1_int8: float
    lost: int
    won: int
    drop_points: float
    drop_interval: tuple[float, float]
    mcnemar_p: float
    flips: int
    constant: bool


@dataclass(frozen=True)
class Latency:
    """Medians in milliseconds a call, one thread each, the two models in turn; ``speedup`` is fp32 / int8."""

    batch_size: int
    fp32_ms: float
    int8_ms: float
    speedup: float
    rounds: int


@dataclass(frozen=True)
class Verdict:
    """Whether int8 ships, and why; ``good_enough`` is about the accuracy alone."""

    ships: bool
    good_enough: bool
    reason: str
    allowed_drop_points: float


def compare(fp32: NDArray[np.float32], int8: NDArray[np.float32], labels: NDArray[np.int64]) -> Difference:
    """Compare two sets of outputs, float32 (n, classes), for pictures with ``labels``, int64 (n,)."""
    first, second = fp32.argmax(axis=1), int8.argmax(axis=1)
    right_first, right_second = first == labels, second == labels
    lost = int((right_first & ~right_second).sum())
    won = int((~right_first & right_second).sum())
    count = len(labels)
    return Difference(
        images=count,
        accuracy_fp32=float(right_first.mean()),
        accuracy_int8=float(right_second.mean()),
        macro_f1_fp32=_macro_f1(labels, first, fp32.shape[1]),
        macro_f1_int8=_macro_f1(labels, second, fp32.shape[1]),
        lost=lost,
        won=won,
        drop_points=100 * (lost - won) / count,
        drop_interval=_paired_interval(lost, won, count),
        mcnemar_p=float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0,
        flips=int((first != second).sum()),
        constant=len(np.unique(first)) == 1 < len(np.unique(labels)),
    )


def _macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    scores = scores_of(confusion_of(labels, predicted, classes))
    return scores.macro(scores.f1)


def _paired_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    more, less, total = lost + 0.5, won + 0.5, count + 2
    centre = (more - less) / total
    half = 1.96 * math.sqrt(more + less - (more - less) ** 2 / total) / total
    return 100 * (centre - half), 100 * (centre + half)


def measure(fp32: Model, int8: Model, pictures: NDArray[np.uint8]) -> list[Latency]:
    """Time both models in turn on the same batches, after a warm-up, on one thread each.

    Both sessions must have been opened with ``threads=1``: threads that wait by spinning would disturb the other.
    """
    # of the first pictures alone: resize copies all that it is given, which may be gigabytes
    return [_measure(fp32, int8, np.resize(pictures[:size], (size, *pictures.shape[1:]))) for size in LATENCY_BATCHES]


def _measure(fp32: Model, int8: Model, batch: NDArray[np.uint8]) -> Latency:
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    warm = False
    while time.perf_counter() - start < MIN_SECONDS or len(times[0]) < MIN_ROUNDS:
        if not warm and time.perf_counter() - start > MIN_SECONDS / 4:
            warm = True
            start = time.perf_counter()
            times[0].clear()
            times[1].clear()
        for model, spent in zip((fp32, int8), times, strict=True):
            began = time.perf_counter()
            model.session.run([PROBABILITIES], {INPUT: batch})
            spent.append(1e3 * (time.perf_counter() - began))
    first, second = (float(np.median(spent)) for spent in times)
    return Latency(len(batch), first, second, first / second, len(times[0]))


def decide(validation: Difference, latencies: Sequence[Latency], max_drop: float | None = None) -> Verdict:
    """int8 ships when it costs at most ``max_drop`` percentage points of validation accuracy and is
    :data:`MIN_SPEEDUP` times as fast.

    None allows :data:`MAX_DROP`, or one net picture, which on a small validation split is more. Nor does it ship where
    more than :data:`MAX_FLIPS` change their class, or where fp32 has learned too little to lose anything.
    """
    allowed = max(MAX_DROP, 100 / validation.images) if max_drop is None else max_drop
    points = f"{abs(validation.drop_points):.2f} points"
    change = (
        f"loses {points}"
        if validation.drop_points > 0
        else f"gains {points}"
        if validation.drop_points
        else "loses nothing"
    )
    drop = f"it {change} on {validation.images:,} validation pictures"
    limit = f"{allowed:.2f} allowed" + (", one net picture" if max_drop is None and allowed > MAX_DROP else "")
    slower = [entry for entry in latencies if not entry.speedup >= MIN_SPEEDUP]
    speed = ", ".join(f"{entry.speedup:.2f}x at batch {entry.batch_size}" for entry in latencies)
    # lost pictures are counted, not divided: 0.2 points of 5,000 are exactly 10 pictures
    if validation.lost - validation.won > round(allowed * validation.images / 100, 6):
        return Verdict(False, False, f"{drop}; {limit}", allowed)
    if validation.constant:
        reason = (
            f"fp32 gives all {validation.images:,} validation pictures one class, which shows nothing: train longer"
        )
        return Verdict(False, False, reason, allowed)
    if validation.flips > max(1.0, MAX_FLIPS * validation.images):
        reason = f"it gives {validation.flips:,} of {validation.images:,} validation pictures another class"
        return Verdict(False, False, f"{reason}; {MAX_FLIPS:.0%} allowed", allowed)
    if slower:
        return Verdict(False, True, f"int8 is not faster here: {speed}, and {MIN_SPEEDUP}x is the least", allowed)
    return Verdict(True, True, f"{drop} ({limit}) and runs {speed}", allowed)
