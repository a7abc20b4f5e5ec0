"""Latency and throughput on this machine, by MLPerf's scenarios.

SingleStream classifies pictures one after the other; Offline classifies them all at once with all processors (Reddi
et al., 2020, "MLPerf Inference Benchmark", arXiv:1911.02549). No outliers are removed: a noisy measurement is marked.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise

import numpy as np

from cnn_infer.classifier import Classifier
from cnn_infer.console import quantity
from cnn_infer.errors import DeviceError, InputError, PictureError
from cnn_infer.model import open_model
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.pixels.convert import decode
from cnn_infer.pixels.read import read_file
from cnn_infer.pixels.resize import fitted
from cnn_infer.providers.probe import ask
from cnn_infer.system import machine

BLOCKS = 10
"""Number of blocks of calls in SingleStream, after one block of warm-up."""

BLOCK_SECONDS = 0.5
"""Shortest duration of a block and of an Offline run, in seconds."""

MOST_PICTURES = 256
"""Largest number of different pictures."""

NOISY = 0.05
"""A measurement with a larger variation between blocks is marked as noisy."""

STAGES = ("read", "decode", "resize", "model", "rest")
"""The parts of a SingleStream call; ``rest`` turns probabilities into class names."""


@dataclass(frozen=True)
class Latency:
    """The result of :func:`measure`.

    Attributes:
        import_ms: Time to import ``cnn_infer`` and ONNX Runtime in a fresh process, in milliseconds.
        load_ms: Time to open the model, in milliseconds.
        first_ms: Time of the first prediction of a new session, which includes the session's set-up, in milliseconds.
        single_stream: ``p50``, ``p90``, ``p99`` and ``mean`` of the time from path to prediction, in milliseconds.
        stages: The same figures for each of :data:`STAGES`.
        offline: Pictures per second with all processors.
        calls: Number of SingleStream calls.
        variation: Standard deviation of the blocks' medians, divided by their mean.
        noisy: Whether ``variation`` is above 5%. Then the figures are not reliable.
        threads: Worker threads in Offline.
        model: The path or URL of the model as it was given, without credentials.
        machine: The processor and operating system.
    """

    import_ms: float
    load_ms: float
    first_ms: float
    single_stream: dict[str, float]
    stages: dict[str, dict[str, float]]
    offline: float
    calls: int
    variation: float
    noisy: bool
    threads: int
    model: str
    machine: str

    def to_json(self) -> str:
        """Return the result as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


def measure(
    model: str | os.PathLike[str],
    paths: Iterable[str | os.PathLike[str] | Listed],
    *,
    device: str = "auto",
    device_options: Mapping[str, str] | None = None,
) -> Latency:
    """Measure a model on pictures: SingleStream for five seconds, then Offline for at least 1.5 seconds.

    Args:
        model: The model's file.
        paths: Files, folders and patterns, as :func:`cnn_infer.find_pictures` takes them. The first 256 pictures are
            used, again and again.
        device: As for :class:`~cnn_infer.Classifier`.
        device_options: As for :class:`~cnn_infer.Classifier`.

    Raises:
        InputError: a path does not exist, there are no pictures, or none can be read.
        ModelError: the model cannot be opened, or ONNX Runtime failed.
        DeviceError: the device is not available.
    """
    sample = list(islice(find_pictures(paths), MOST_PICTURES))
    if not sample:
        raise InputError("no pictures found: latency needs at least one picture")
    imported = _import_ms()
    start = time.perf_counter()
    opened = open_model(model, device=device, device_options=device_options)
    loaded = _ms(start)
    classifier = Classifier(opened)
    readable = [path for path in sample if _is_readable(classifier, path)]
    if not readable:
        raise InputError("none of the pictures can be read: latency needs at least one")
    # a second session, because the first one has classified pictures already
    fresh = Classifier(open_model(model, device=device, device_options=device_options))
    start = time.perf_counter()
    fresh.predict(readable[0])
    first = _ms(start)
    blocks = _single_stream(classifier, readable)
    calls = np.concatenate(blocks)
    medians = [float(np.median(block.sum(axis=1))) for block in blocks]
    variation = statistics.stdev(medians) / statistics.mean(medians)
    threads = machine.usable_cpus()
    return Latency(
        import_ms=imported,
        load_ms=loaded,
        first_ms=first,
        single_stream=percentiles(calls.sum(axis=1)),
        stages={name: percentiles(calls[:, place]) for place, name in enumerate(STAGES)},
        offline=_offline(classifier, readable, threads),
        calls=len(calls),
        variation=variation,
        noisy=variation > NOISY,
        threads=threads,
        model=opened.name,
        machine=machine.description(),
    )


def text(found: Latency) -> str:
    """Return the result as a text of several lines, for people."""
    lines = [
        f"import {found.import_ms:.0f} ms, load {found.load_ms:.1f} ms, first picture {found.first_ms:.2f} ms",
        f"{'SingleStream':<14}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'mean ms':>9}",
    ]
    rows = {"a picture": found.single_stream, **{f"  {name}": row for name, row in found.stages.items()}}
    for name, row in rows.items():
        lines.append(f"{name:<14}" + "".join(f"{row[key]:9.3f}" for key in ("p50", "p90", "p99", "mean")))
    lines.append(f"Offline       {found.offline:,.0f} pictures/s on {quantity(found.threads, 'thread')}")
    verdict = "NOISY: the machine was busy, measure again" if found.noisy else "quiet"
    lines.append(f"{found.calls:,} calls; blocks vary by {found.variation:.1%}: {verdict}")
    return "\n".join(lines)


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Return ``p50``, ``p90``, ``p99`` and ``mean`` of values."""
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(values.mean())}


def _ms(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


def _import_ms() -> float:
    code = (
        "import time; start = time.perf_counter(); import cnn_infer.classifier, onnxruntime; "
        "seconds = time.perf_counter() - start; print(); print([seconds])"
    )
    times: list[float] = []
    for _ in range(3):
        answer = ask(code)
        if answer.error:
            raise DeviceError(f"cannot measure how long the imports take: {answer.error}")
        times.append(1e3 * answer.value[0])
    return statistics.median(times)


def _is_readable(classifier: Classifier, path: str) -> bool:
    try:
        classifier.predict(path)
    except PictureError:
        return False
    return True


def _single_stream(classifier: Classifier, paths: Sequence[str]) -> list[np.ndarray]:
    """Return blocks of calls after one block of warm-up, each float64 (calls, stages), in milliseconds."""
    blocks = []
    turn = 0
    for _ in range(BLOCKS + 1):
        rows: list[list[float]] = []
        until = time.perf_counter() + BLOCK_SECONDS
        while time.perf_counter() < until or len(rows) < 5:
            rows.append(_timed_call(classifier, paths[turn % len(paths)]))
            turn += 1
        blocks.append(np.array(rows))
    return blocks[1:]


def _timed_call(classifier: Classifier, path: str) -> list[float]:
    """Classify one picture; return the time of each stage in milliseconds."""
    marks = [time.perf_counter()]
    data = read_file(path)
    marks.append(time.perf_counter())
    image = decode(data, classifier.spec)
    marks.append(time.perf_counter())
    pixels = fitted(image, classifier.spec)
    marks.append(time.perf_counter())
    probabilities = classifier.probabilities(pixels[None])
    marks.append(time.perf_counter())
    classifier.to_prediction(probabilities[0])
    marks.append(time.perf_counter())
    return [1e3 * (after - before) for before, after in pairwise(marks)]


def _offline(classifier: Classifier, paths: Sequence[str], threads: int) -> float:
    """Return pictures per second: the median of three runs, each over as many copies as fill a block."""
    repeated = list(paths)
    rates: list[float] = []
    while len(rates) < 3:
        start = time.perf_counter()
        for _ in classifier.answers(repeated, workers=threads):
            pass
        seconds = time.perf_counter() - start
        if seconds < BLOCK_SECONDS and len(repeated) < 1 << 16:
            repeated = repeated * 2
        else:
            rates.append(len(repeated) / seconds)
    return statistics.median(rates)
