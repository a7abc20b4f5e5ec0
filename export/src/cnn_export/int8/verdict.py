"""The comparison of int8 with fp32: the accuracy it loses, the time it saves, and whether it ships."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cnn_infer import Model
from cnn_infer.metrics import confusion_of, scores_of
from cnn_infer.model import INPUT, PROBABILITIES
from cnn_infer.system import machine
from cnn_train.replay import difference_interval, mcnemar_p
from numpy.typing import NDArray

from cnn_export.accepted_loss import allowed_drop, loses_too_much
from cnn_export.int8.targets import WITH_DOT_PRODUCTS
from cnn_export.options import MAX_DROP

MAX_FLIPS = 0.05
"""Largest share of the validation pictures for which int8 may predict another class than fp32. Two equally accurate
models can disagree on many pictures; such an int8 model keeps the accuracy only by chance."""

MIN_SPEEDUP = 1.05
"""Smallest speed-up that counts as faster. The best of many candidates is a few percent too fast by chance alone."""

NOT_MEASURED = "not measured: judge on the box"
"""Speed of a model for other processors than this machine's."""

LATENCY_BATCHES = (1, 32)
MIN_SECONDS = 0.3
MIN_ROUNDS = 20


@dataclass(frozen=True)
class Difference:
    """The comparison of int8 with fp32 on the same labelled pictures.

    Attributes:
        images: Number of pictures.
        accuracy_fp32: 0 to 1.
        accuracy_int8: 0 to 1.
        macro_f1_fp32: 0 to 1.
        macro_f1_int8: 0 to 1.
        lost: Number of pictures that only fp32 classifies correctly.
        won: Number of pictures that only int8 classifies correctly.
        drop_points: Accuracy of fp32 minus accuracy of int8, in percentage points.
        drop_interval: 95% confidence interval of the paired difference, in percentage points (Agresti and Min,
            2005, Statistics in Medicine 24:729, which adds half a picture to each count).
        mcnemar_p: Exact two-sided p of McNemar's test (1947, Psychometrika 12:153).
        flips: Number of pictures whose predicted class differs.
        constant: Whether fp32 predicts one class for all pictures although the labels have several.
        classes: Number of classes among the labels.
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
    classes: int


@dataclass(frozen=True)
class Timing:
    """The speed of fp32 and int8 at one batch size, each on one thread.

    Attributes:
        batch_size: Pictures in a call.
        fp32_ms: Median time of a call of the fp32 model, in milliseconds.
        int8_ms: Median time of a call of the int8 model, in milliseconds.
        speedup: ``fp32_ms / int8_ms``.
        rounds: Timed calls of each model.
    """

    batch_size: int
    fp32_ms: float
    int8_ms: float
    speedup: float
    rounds: int


@dataclass(frozen=True)
class Verdict:
    """Whether an int8 model ships.

    Attributes:
        good_enough: Whether it is accurate enough.
        faster: Whether it is faster than fp32 on this machine. None if it is for other processors, so that its speed
            was not measured.
        reason: One sentence for the user.
        allowed_drop_points: Validation accuracy that it may lose, in percentage points.
        ships: Whether it replaces fp32: it is accurate enough, and faster on this machine.
    """

    good_enough: bool
    faster: bool | None
    reason: str
    allowed_drop_points: float
    ships: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ships", self.good_enough and self.faster is True)

    @property
    def rejected(self) -> bool:
        """Whether it is not accurate enough, or was measured as not faster."""
        return not self.good_enough or self.faster is False


def compare(fp32: NDArray[np.float32], int8: NDArray[np.float32], labels: NDArray[np.int64]) -> Difference:
    """Compare the outputs of two models for the same pictures.

    Args:
        fp32: Logits or probabilities of the fp32 model, float32 (n, classes).
        int8: Those of the int8 model, float32 (n, classes).
        labels: True classes, int64 (n,).
    """
    first, second = fp32.argmax(axis=1), int8.argmax(axis=1)
    right_first, right_second = first == labels, second == labels
    lost = int((right_first & ~right_second).sum())
    won = int((~right_first & right_second).sum())
    count, classes = len(labels), len(np.unique(labels))
    low, high = difference_interval(lost, won, count)
    return Difference(
        images=count,
        accuracy_fp32=float(right_first.mean()),
        accuracy_int8=float(right_second.mean()),
        macro_f1_fp32=_macro_f1(labels, first, fp32.shape[1]),
        macro_f1_int8=_macro_f1(labels, second, fp32.shape[1]),
        lost=lost,
        won=won,
        drop_points=100 * (lost - won) / count,
        drop_interval=(100 * low, 100 * high),
        mcnemar_p=mcnemar_p(lost, won),
        flips=int((first != second).sum()),
        constant=len(np.unique(first)) == 1 < classes,
        classes=classes,
    )


def _macro_f1(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    scores = scores_of(confusion_of(labels, predicted, classes))
    return scores.macro(scores.f1)


def measure(fp32: Model, int8: Model, pictures: NDArray[np.uint8]) -> list[Timing]:
    """Measure the latency of both models at each of :data:`LATENCY_BATCHES`, after a warm-up.

    The calls of the two models alternate, so that a slow moment of the machine affects both.

    Args:
        fp32: Opened with ``threads=1``: idle threads that spin would slow the other model.
        int8: Likewise.
        pictures: uint8 (n, h, w, c), at least one; repeated where a batch needs more.
    """
    # only the first pictures are passed to resize, which copies its whole argument
    return [_measure(fp32, int8, np.resize(pictures[:size], (size, *pictures.shape[1:]))) for size in LATENCY_BATCHES]


def _measure(fp32: Model, int8: Model, batch: NDArray[np.uint8]) -> Timing:
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
    return Timing(len(batch), first, second, first / second, len(times[0]))


def is_faster(timings: Sequence[Timing]) -> bool:
    """Whether int8 reaches :data:`MIN_SPEEDUP` at every batch size. True if nothing was measured."""
    return all(entry.speedup >= MIN_SPEEDUP for entry in timings)


def speed_text(timings: Sequence[Timing]) -> str:
    """The speed-ups for people, such as ``0.95x at batch 1, 1.20x at batch 32``."""
    return ", ".join(f"{entry.speedup:.2f}x at batch {entry.batch_size}" for entry in timings)


def slow_reason(instructions: str | None = None) -> str:
    """Why int8 gains little on a processor, as the end of a sentence; empty if it has byte dot products.

    Args:
        instructions: Its instruction set, as :func:`cnn_infer.system.machine.instruction_set` names it; None for this
            machine's.
    """
    instructions = machine.instruction_set() if instructions is None else instructions
    if instructions in WITH_DOT_PRODUCTS:
        return ""
    return f"; this processor has no byte dot products ({instructions}), with which int8 is fastest"


def decide(validation: Difference, timings: Sequence[Timing], max_drop: float | None = None) -> Verdict:
    """Decide whether an int8 model ships.

    It is accurate enough if it loses at most ``max_drop`` points of validation accuracy, at most :data:`MAX_FLIPS` of
    the pictures change their class, and the comparison means something. It means nothing if the labels or the
    predictions of fp32 have one class only, or if fp32 is never right. It ships if it is also faster.

    Args:
        validation: Comparison on the validation pictures.
        timings: Speed on this machine; empty if it was not measured, because the model is for other processors.
        max_drop: Largest loss of accuracy, in percentage points. None for :data:`MAX_DROP`, or for one picture where
            that is more, as it is on a small validation split.
    """
    faster = is_faster(timings) if timings else None
    allowed = allowed_drop(validation.images) if max_drop is None else max_drop
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
    if loses_too_much(validation.lost - validation.won, validation.images, allowed):
        return Verdict(False, faster, f"{drop}; {limit}", allowed)
    if reason := meaningless(validation):
        return Verdict(False, faster, reason, allowed)
    if validation.flips > max(1.0, MAX_FLIPS * validation.images):
        reason = f"it predicts another class for {validation.flips:,} of {validation.images:,} validation pictures"
        return Verdict(False, faster, f"{reason}; {MAX_FLIPS:.0%} allowed", allowed)
    if faster is None:
        return Verdict(True, faster, f"{drop} ({limit}); speed {NOT_MEASURED}", allowed)
    if not faster:
        reason = f"int8 is not faster on this machine: {speed_text(timings)}; at least {MIN_SPEEDUP}x is required"
        reason += slow_reason()
        return Verdict(True, faster, reason, allowed)
    return Verdict(True, faster, f"{drop} ({limit}) and runs {speed_text(timings)}{slow_reason()}", allowed)


def meaningless(validation: Difference) -> str | None:
    """Return why the validation split cannot show that int8 keeps the accuracy; None if it can."""
    if validation.classes == 1:
        return "the validation pictures have one class only, so the comparison means nothing: add the other classes"
    if validation.constant:
        problem = f"fp32 predicts the same class for all {validation.images:,} validation pictures"
    elif not validation.accuracy_fp32:
        problem = f"fp32 classifies none of the {validation.images:,} validation pictures correctly"
    else:
        return None
    return f"{problem}, so the comparison means nothing: train longer"
