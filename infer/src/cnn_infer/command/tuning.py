"""How many threads and how large batches: measured on the first pictures of a run, in a few tenths of a second.

One session serves all threads, and each run of it stays on the thread that calls it: on a processor, runs side by side
answer more pictures a second than one run on several threads, int8 above all. What is left to choose depends on the
pictures (of tiny ones Python's own work is the larger part, and that has one thread at a time) and on the network.
Nothing here changes an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.system import machine

if TYPE_CHECKING:
    from cnn_infer.pixels.convert import Picture

FEW = 256
"""A run of fewer pictures is over before a choice has paid."""

SLICE = 0.025
"""Seconds that one measurement takes, about."""

MARGIN = 1.1
"""Choices whose times differ by less are equal."""

_BATCH_SIZES = (1, 4, 16, 64, 256)


@dataclass(frozen=True)
class Plan:
    """What a run should use.

    Attributes:
        threads: Threads; each decodes and classifies a batch of its own.
        batch_size: Pictures to a run of the model.
        why: What was measured, in one line for a person.
    """

    threads: int
    batch_size: int
    why: str


def plan(classifier: Classifier, pictures: Iterable[str], *, batch_size: int | None = None) -> Plan:
    """Measure on the first pictures, and choose the fewest to a batch and the most threads that are as fast as any.

    Threads are at most as many as the processors this process may use (:func:`cnn_infer.system.machine.usable_cpus`).

    Args:
        classifier: The model.
        pictures: The files of the run; those that cannot be read count as they do in the run.
        batch_size: Pictures to a run of the model, where that is not to be chosen.
    """
    cpus = machine.usable_cpus()
    first = list(islice(pictures, FEW))
    if len(first) < FEW:
        return Plan(cpus, batch_size or BATCH_SIZE, f"not measured: fewer than {FEW} pictures")
    start = time.perf_counter()
    said = []
    if batch_size is None:
        times = _by_batch_size(classifier)
        batch_size = _first_good(times)
        said.append(f"the model in batches of {_listed(times)} us a picture")
    sample = _sample(classifier, first)
    if len(sample) == 1:  # it takes longer than a slice; the decoders of large pictures do not wait for one another
        threads = cpus
        said.append("pictures are slow")
    else:
        times = _by_threads(classifier, sample, batch_size, cpus)
        threads = _first_good(times)
        said.append(f"threads {_listed(times)} us a picture")
    return Plan(threads, batch_size, f"measured in {time.perf_counter() - start:.2f} s: {'; '.join(said)}")


def _by_batch_size(classifier: Classifier) -> dict[int, float]:
    """Seconds a picture of the model's size takes, by batch size, as far as a batch fits into a slice."""
    blank = np.zeros(classifier.spec.shape, np.uint8)
    each = _seconds(classifier, [blank], 1, 1)
    times: dict[int, float] = {}
    for size in _BATCH_SIZES:
        batches = int(SLICE / (size * each))
        if times and not batches:
            break
        each = times[size] = _seconds(classifier, [blank] * (size * max(1, batches)), size, 1)
    return times


def _by_threads(classifier: Classifier, sample: Sequence[str], batch_size: int, cpus: int) -> dict[int, float]:
    """Seconds a picture takes, by threads: all processors, half as many, ... one."""
    batch_size = min(batch_size, len(sample))
    times: dict[int, float] = {}
    threads = cpus
    while threads:
        work = list(islice(cycle(sample), len(sample) * threads))
        times[threads] = _seconds(classifier, work, batch_size, threads)
        threads //= 2
    return times


def _sample(classifier: Classifier, pictures: Sequence[str]) -> list[str]:
    """The first pictures, so many as one thread answers in a slice, but at least one."""
    sample = []
    until = time.perf_counter() + SLICE
    for picture in pictures:
        sample.append(picture)
        for _ in classifier.answers([picture], batch_size=1):
            pass
        if time.perf_counter() > until:
            break
    return sample


def _seconds(classifier: Classifier, pictures: Sequence[Picture], batch_size: int, threads: int) -> float:
    """Seconds a picture, of the faster of two goes: the first one may be the first of its kind."""
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        for _ in classifier.answers(pictures, batch_size=batch_size, workers=threads):
            pass
        spent.append(time.perf_counter() - start)
    return min(spent) / len(pictures)


def _first_good(times: dict[int, float]) -> int:
    best = min(times.values())
    return next(choice for choice, seconds in times.items() if seconds <= MARGIN * best)


def _listed(times: dict[int, float]) -> str:
    choices = ", ".join(map(str, times))
    return f"{choices}: {', '.join(f'{1e6 * seconds:.0f}' for seconds in times.values())}"
