"""``--threads auto``: measure the fastest number of threads and batch size on the first pictures of a run.

All threads share one single-threaded session: on a CPU, several batches side by side are faster than one batch on
several threads, above all in int8. The best number of threads depends on the pictures: Python code runs in one thread
at a time, and for small pictures it takes most of the time. The best batch size depends on the network. The measurement
takes a few tenths of a second. Both choices change the speed only, never a prediction.
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

MIN_PICTURES = 256
"""With fewer pictures nothing is measured: the run would be shorter than the measurement."""

MEASUREMENT_SECONDS = 0.025
"""About how long one measurement takes."""

TOLERANCE = 1.1
"""A choice counts as fastest if its time is at most this factor above the shortest time."""

_BATCH_SIZES = (1, 4, 16, 64, 256)


@dataclass(frozen=True)
class Plan:
    """The chosen number of threads and batch size.

    Attributes:
        threads: Worker threads; each decodes and classifies its own batches.
        batch_size: Pictures per run of the model.
        why: The measured times, as one line of text.
    """

    threads: int
    batch_size: int
    why: str


def plan(classifier: Classifier, pictures: Iterable[str], *, batch_size: int | None = None) -> Plan:
    """Measure on the first pictures, and choose the number of threads and the batch size.

    Of several choices that are equally fast, it takes the smallest batch size and the largest number of threads.

    Args:
        classifier: The model.
        pictures: The files of the run, including unreadable ones; only the first :data:`MIN_PICTURES` are used.
        batch_size: Pictures per run of the model; None to choose it too.

    Returns:
        The choice; at most :func:`cnn_infer.system.machine.usable_cpus` threads.
    """
    cpus = machine.usable_cpus()
    first = list(islice(pictures, MIN_PICTURES))
    if len(first) < MIN_PICTURES:
        return Plan(cpus, batch_size or BATCH_SIZE, f"not measured: fewer than {MIN_PICTURES} pictures")
    start = time.perf_counter()
    measured = []
    if batch_size is None:
        times = _by_batch_size(classifier)
        batch_size = _first_fast(times)
        measured.append(f"batch size {_as_text(times)} us per picture for the model")
    sample = _sample(classifier, first)
    if len(sample) == 1:  # slow pictures: decoder and model take most of the time, and they run in parallel
        threads = cpus
        measured.append("threads not measured: pictures take too long")
    else:
        times = _by_threads(classifier, sample, batch_size, cpus)
        threads = _first_fast(times)
        measured.append(f"threads {_as_text(times)} us per picture")
    return Plan(threads, batch_size, f"measured in {time.perf_counter() - start:.2f} s: {'; '.join(measured)}")


def _by_batch_size(classifier: Classifier) -> dict[int, float]:
    """Return the model's seconds per picture, by batch size, for batches that fit into one measurement."""
    blank = np.zeros(classifier.spec.shape, np.uint8)
    each = _seconds(classifier, [blank], 1, 1)
    times: dict[int, float] = {}
    for size in _BATCH_SIZES:
        batches = int(MEASUREMENT_SECONDS / (size * each))
        if times and not batches:
            break
        each = times[size] = _seconds(classifier, [blank] * (size * max(1, batches)), size, 1)
    return times


def _by_threads(classifier: Classifier, sample: Sequence[str], batch_size: int, cpus: int) -> dict[int, float]:
    """Return the seconds per picture, by threads: ``cpus``, half as many, and so on down to 1."""
    batch_size = min(batch_size, len(sample))
    times: dict[int, float] = {}
    threads = cpus
    while threads:
        work = list(islice(cycle(sample), len(sample) * threads))
        times[threads] = _seconds(classifier, work, batch_size, threads)
        threads //= 2
    return times


def _sample(classifier: Classifier, pictures: Sequence[str]) -> list[str]:
    """Return the first pictures: as many as one thread classifies in one measurement, at least 1."""
    sample = []
    until = time.perf_counter() + MEASUREMENT_SECONDS
    for picture in pictures:
        sample.append(picture)
        for _ in classifier.answers([picture], batch_size=1):
            pass
        if time.perf_counter() > until:
            break
    return sample


def _seconds(classifier: Classifier, pictures: Sequence[Picture], batch_size: int, threads: int) -> float:
    """Return the seconds per picture, the shorter of two measurements: the first may include a warm-up."""
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        for _ in classifier.answers(pictures, batch_size=batch_size, workers=threads):
            pass
        spent.append(time.perf_counter() - start)
    return min(spent) / len(pictures)


def _first_fast(times: dict[int, float]) -> int:
    """Return the first choice that counts as fastest."""
    best = min(times.values())
    return next(choice for choice, seconds in times.items() if seconds <= TOLERANCE * best)


def _as_text(times: dict[int, float]) -> str:
    choices = ", ".join(map(str, times))
    return f"{choices}: {', '.join(f'{1e6 * seconds:.0f}' for seconds in times.values())}"
