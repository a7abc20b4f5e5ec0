"""Time several models in turn, round by round, so that a slow moment of the machine affects all of them.

A speed-up is the median of the rounds' ratios, with a distribution-free confidence interval from order statistics
(Conover, 1999, Practical Nonparametric Statistics, 3.2). No outliers are removed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from cnn_infer import console
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.system import machine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.pixels.convert import Picture

LEAST_SPEEDUP = 1.05
"""Smallest factor that counts as faster. A smaller gain is not worth another file."""

CONFIDENCE = 0.95
"""Confidence of the interval of a speed-up."""

SECONDS = 8.0
"""About how long the timed rounds take. With slow models :data:`ROUNDS` decides."""

ROUNDS = (9, 41)
"""Smallest and largest number of rounds."""

BLOCK_SECONDS = (0.02, 0.08)
"""Shortest block at batch 1 and in a folder for the fastest model, in seconds."""

BATCH_SECONDS = 0.25
"""The batch size in a folder is smaller where a batch would take longer than this, in seconds."""

WARM_UP_CALLS = 20

WARM_UP_SECONDS = 0.3
"""A warm-up ends after this time, even with fewer than :data:`WARM_UP_CALLS` calls."""


@dataclass(frozen=True)
class Spread:
    """A figure that is measured once per round: its median, and the 10th and 90th percentile of the rounds."""

    median: float
    p10: float
    p90: float


@dataclass(frozen=True)
class Speedup:
    """How many times as fast a model is as another one.

    Attributes:
        median: Time of the other model divided by the time of this one: the median of the rounds.
        low: Lower end of the 95% confidence interval of the median.
        high: Upper end of it.
        answer: ``faster`` or ``slower`` if the interval excludes 1 and the median is at least :data:`LEAST_SPEEDUP` or
            at most its reciprocal; otherwise ``equal``.
    """

    median: float
    low: float
    high: float
    answer: Literal["faster", "slower", "equal"]


@dataclass(frozen=True)
class Times:
    """Seconds per picture of each model in each round.

    Attributes:
        batch_1: The model alone, one picture per call, one thread: float64 (rounds, models).
        folder: A run over all pictures: float64 (rounds, models).
        threads: Worker threads of the run over pictures.
        batch_size: Most pictures in one run of the model in the run over pictures.
    """

    batch_1: NDArray[np.float64]
    folder: NDArray[np.float64]
    threads: int
    batch_size: int


def measure(classifiers: Sequence[Classifier], frames: NDArray[np.uint8], pictures: Sequence[Picture]) -> Times:
    """Time models on one thread at batch 1, and in a run over pictures with all processors, after a warm-up.

    Args:
        classifiers: The models, opened with one thread.
        frames: Pictures for batch 1, uint8 (n, height, width, channels), n at least 1.
        pictures: Readable pictures for the run, at least 1. They are repeated where a block needs more.

    Raises:
        ModelError: ONNX Runtime failed.
    """
    threads = machine.usable_cpus()
    calls = [_warm_up(partial(_call, classifier, frames)) for classifier in classifiers]
    alone = [_warm_up(partial(_predict, classifier, pictures)) for classifier in classifiers]
    batch_size = max(1, min(BATCH_SIZE, int(BATCH_SECONDS / max(alone))))
    work = list(islice(cycle(pictures), threads * batch_size))
    runs = [_run(classifier, work, batch_size, threads) for classifier in classifiers]
    repeats = max(1, math.ceil(BLOCK_SECONDS[1] / (min(runs) * len(work))))
    per_block = max(1, math.ceil(BLOCK_SECONDS[0] / min(calls)))
    each_round = sum(calls) * per_block + sum(runs) * len(work) * repeats
    rounds = max(ROUNDS[0], min(ROUNDS[1], int(SECONDS / each_round)))
    batch_1, folder = np.empty((rounds, len(classifiers))), np.empty((rounds, len(classifiers)))
    with console.progress("timing the files in turn", rounds, unit="rounds") as advance:
        for number in range(rounds):
            # every second round in the reverse order: no file profits from its place
            for place in range(len(classifiers))[:: -1 if number % 2 else 1]:
                batch_1[number, place] = _block(classifiers[place], frames, per_block)
                folder[number, place] = _run(classifiers[place], work * repeats, batch_size, threads)
            advance(1)
    return Times(batch_1, folder, threads, batch_size)


def _call(classifier: Classifier, frames: NDArray[np.uint8], turn: int) -> None:
    place = turn % len(frames)
    classifier.probabilities(frames[place : place + 1])


def _predict(classifier: Classifier, pictures: Sequence[Picture], turn: int) -> None:
    classifier.predict(pictures[turn % len(pictures)])


def _warm_up(call: Callable[[int], object]) -> float:
    """Call a function until it is warm; return the shortest time of a call, in seconds."""
    times: list[float] = []
    until = time.perf_counter() + WARM_UP_SECONDS
    while not times or (len(times) < WARM_UP_CALLS and time.perf_counter() < until):
        start = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - start)
    return min(times)


def _block(classifier: Classifier, frames: NDArray[np.uint8], calls: int) -> float:
    """Return the seconds per picture of ``calls`` calls at batch 1."""
    start = time.perf_counter()
    for turn in range(calls):
        _call(classifier, frames, turn)
    return (time.perf_counter() - start) / calls


def _run(classifier: Classifier, work: Sequence[Picture], batch_size: int, threads: int) -> float:
    """Return the seconds per picture of a run over pictures."""
    start = time.perf_counter()
    with closing(classifier.answers(work, batch_size=batch_size, workers=threads)) as answers:
        for _ in answers:
            pass
    return (time.perf_counter() - start) / len(work)


def spread_of(values: NDArray[np.float64]) -> Spread:
    """Return median, 10th and 90th percentile of one figure per round, float64 (rounds,)."""
    p10, median, p90 = np.percentile(values, (10, 50, 90)).tolist()
    return Spread(median, p10, p90)


def speedup_of(times: NDArray[np.float64], others: NDArray[np.float64]) -> Speedup:
    """Return how many times as fast a model is as another one.

    Args:
        times: Seconds per picture in each round, float64 (rounds,).
        others: Those of the other model in the same rounds.
    """
    ratios = np.sort(others / times)
    rank = _rank(len(ratios))
    median, low, high = float(np.median(ratios)), float(ratios[rank - 1]), float(ratios[-rank])
    answer: Literal["faster", "slower", "equal"] = "equal"
    if low > 1 and median >= LEAST_SPEEDUP:
        answer = "faster"
    elif high < 1 and median <= 1 / LEAST_SPEEDUP:
        answer = "slower"
    return Speedup(median, low, high, answer)


def _rank(count: int) -> int:
    """The rank, from 1, of the smallest of ``count`` sorted values that belongs to the interval of the median.

    The interval from this value to the one with the same rank from the other end covers the median with a probability
    of at least :data:`CONFIDENCE`, for at least six values.
    """
    below, rank = 0.5**count, 1  # the probability that fewer than ``rank`` values lie below the median
    while (below := below + math.comb(count, rank) * 0.5**count) <= (1 - CONFIDENCE) / 2:
        rank += 1
    return rank
