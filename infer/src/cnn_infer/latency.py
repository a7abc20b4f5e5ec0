"""How long a picture takes here, as MLPerf names it: SingleStream, one after the other, and Offline, as many as can be.

(Reddi et al., 2020, "MLPerf Inference Benchmark", arXiv:1911.02549.) Nothing is clipped: a noisy machine is called so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, pairwise

import numpy as np

from cnn_infer.classifier import Classifier
from cnn_infer.errors import InputError, PictureError
from cnn_infer.model import open_model
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.pixels.convert import decode, fitted
from cnn_infer.pixels.read import read_file
from cnn_infer.system import machine

BLOCKS = 10
BLOCK_SECONDS = 0.5
MOST_PICTURES = 256
NOISY = 0.05
STAGES = ("read", "decode", "resize", "model", "rest")


@dataclass(frozen=True)
class Latency:
    """Times in milliseconds; see :func:`measure`.

    Attributes:
        import_ms: To import the package and ONNX Runtime, in a fresh process.
        load_ms: To open the model.
        first_ms: The first picture, which sets the session up.
        single_stream: ``p50``, ``p90``, ``p99`` and ``mean`` of a whole picture, from its path to its prediction.
        stages: The same of reading, decoding, resizing, the model, and the rest (naming the classes).
        offline: Pictures a second with all processors.
        calls: Pictures measured one after the other.
        variation: Standard deviation over mean of the blocks' medians.
        noisy: Whether that is more than 5%: then the figures are not to be relied on.
        threads: Processors used for ``offline``.
        model: The model's file.
        machine: Where this was measured.
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
        """As one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


def measure(
    model: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str] | Listed], *, device: str = "auto"
) -> Latency:
    """Measure a model on pictures, at most 256 of them, again and again for five seconds, and then all at once.

    Args:
        model: The model's file.
        paths: Files and folders; see :func:`cnn_infer.find_pictures`.
        device: As for :class:`~cnn_infer.Classifier`.

    Raises:
        InputError: a path does not exist, there is no picture at all, or none can be read.
    """
    some = list(islice(find_pictures(paths), MOST_PICTURES))
    if not some:
        raise InputError("no pictures found: latency is measured on pictures")
    imported = _import_ms()
    start = time.perf_counter()
    opened = open_model(model, device=device)
    loaded = _ms(start)
    classifier = Classifier(opened)
    good = [path for path in some if _is_good(classifier, path)]
    if not good:
        raise InputError("none of the pictures can be read: latency is measured on pictures")
    # a second session, since the one above has been used by now
    again = Classifier(open_model(model, device=device))
    start = time.perf_counter()
    again.predict(good[0])
    first = _ms(start)
    blocks = _single_stream(classifier, good)
    calls = np.concatenate(blocks)
    medians = [float(np.median(block.sum(axis=1))) for block in blocks]
    variation = statistics.stdev(medians) / statistics.mean(medians)
    threads = machine.usable_cpus()
    return Latency(
        import_ms=imported,
        load_ms=loaded,
        first_ms=first,
        single_stream=_percentiles(calls.sum(axis=1)),
        stages={name: _percentiles(calls[:, place]) for place, name in enumerate(STAGES)},
        offline=_offline(classifier, good, threads),
        calls=len(calls),
        variation=variation,
        noisy=variation > NOISY,
        threads=threads,
        model=opened.name,
        machine=machine.description(),
    )


def text(found: Latency) -> str:
    """For people."""
    lines = [
        f"import {found.import_ms:.0f} ms, load {found.load_ms:.1f} ms, first picture {found.first_ms:.2f} ms",
        f"{'SingleStream':<14}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'mean ms':>9}",
    ]
    rows = {"a picture": found.single_stream, **{f"  {name}": row for name, row in found.stages.items()}}
    for name, row in rows.items():
        lines.append(f"{name:<14}" + "".join(f"{row[key]:9.3f}" for key in ("p50", "p90", "p99", "mean")))
    lines.append(f"Offline       {found.offline:,.0f} pictures/s on {found.threads} threads")
    verdict = "NOISY: the machine was busy, measure again" if found.noisy else "quiet"
    lines.append(f"{found.calls:,} calls; blocks vary by {found.variation:.1%}: {verdict}")
    return "\n".join(lines)


def _ms(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


def _import_ms() -> float:
    code = (
        "import time; start = time.perf_counter(); import cnn_infer.classifier, onnxruntime; "
        "print(time.perf_counter() - start)"
    )
    times = [
        # -P: a module of the same name among the pictures, in the working directory, must not be loaded
        1e3 * float(subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(times)


def _is_good(classifier: Classifier, path: str) -> bool:
    try:
        classifier.predict(path)
    except PictureError:
        return False
    return True


def _single_stream(classifier: Classifier, paths: Sequence[str]) -> list[np.ndarray]:
    """Blocks of calls, each float64 (calls, stages) in milliseconds, after one block of warm-up."""
    blocks = []
    turn = 0
    for _ in range(BLOCKS + 1):
        rows: list[list[float]] = []
        until = time.perf_counter() + BLOCK_SECONDS
        while time.perf_counter() < until or len(rows) < 5:
            rows.append(_one(classifier, paths[turn % len(paths)]))
            turn += 1
        blocks.append(np.array(rows))
    return blocks[1:]


def _one(classifier: Classifier, path: str) -> list[float]:
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
    """The median of three runs over the pictures, each as often as fills a second."""
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


def _percentiles(values: np.ndarray) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "mean": float(values.mean())}
