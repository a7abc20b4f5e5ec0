"""Latency of exported models: batch sizes 1 and 32, one thread and all cores, on the CPU and on CUDA if it works.

    python benchmarks/latency.py MODEL... --output latency.json

Every row is measured in a process of its own, because the waiting threads of one session slow down another. A row warms
up until three blocks of calls agree. No measurement is dropped. ``cv`` is the coefficient of variation over the blocks:
above 5% the machine was busy, and the row is marked NOISY.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from cnn_infer import Classifier, DeviceError, EdgeCNNError
from cnn_infer.system import machine
from processes import in_own_process
from report import conditions, parser, run_script, write

BATCHES = (1, 32)
BLOCK_SECONDS = 0.1
BLOCKS = 20
STABLE = 0.02
"""Largest relative difference between the medians of three blocks at the end of the warm-up."""

MOST_WARM_UP_BLOCKS = 50
NOISY = 0.05
"""Coefficient of variation above which a row is marked."""


def block(classifier: Classifier, batch: np.ndarray) -> list[float]:
    """Milliseconds of each call in about a tenth of a second, at least five calls."""
    times: list[float] = []
    until = time.perf_counter() + BLOCK_SECONDS
    while time.perf_counter() < until or len(times) < 5:
        start = time.perf_counter()
        classifier.probabilities(batch)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def warm_up(classifier: Classifier, batch: np.ndarray) -> int:
    """Run blocks until the medians of three in a row agree within 2%, and return the number of blocks."""
    medians: list[float] = []
    while len(medians) < MOST_WARM_UP_BLOCKS:
        medians.append(statistics.median(block(classifier, batch)))
        last = medians[-3:]
        if len(last) == 3 and max(last) <= (1 + STABLE) * min(last):
            break
    return len(medians)


def measure(model: str, device: str, threads: int, size: int) -> dict[str, Any]:
    """One row: percentiles over all calls, in milliseconds for a call with ``size`` pictures."""
    classifier = Classifier(model, device=device, threads=threads)
    pixels = np.random.default_rng(0).integers(0, 256, (size, *classifier.spec.shape), dtype=np.uint8)
    warmed = warm_up(classifier, pixels)
    blocks = [block(classifier, pixels) for _ in range(BLOCKS)]
    calls = [value for values in blocks for value in values]
    p50, p90, p99 = np.percentile(calls, (50, 90, 99)).tolist()
    medians = [statistics.median(values) for values in blocks]
    return {
        "model": model,
        "precision": classifier.spec.details.get("precision"),
        "provider": classifier.provider,
        "threads": threads,
        "batch": size,
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "us_per_picture": 1e3 * p50 / size,
        "cv": statistics.stdev(medians) / statistics.mean(medians),
        "calls": len(calls),
        "warm_up_blocks": warmed,
    }


def has_cuda(model: str) -> bool:
    """Whether the model opens on CUDA on this machine."""
    try:
        Classifier(model, device="cuda")
    except DeviceError:
        return False
    return True


def report(models: list[str]) -> dict[str, Any]:
    """All rows, and the conditions under which they were measured."""
    cores = machine.usable_cpus()
    devices = ["cpu", "cuda"] if has_cuda(models[0]) else ["cpu"]
    rows = [
        in_own_process(measure, model, device, threads, size)
        for model in models
        for device in devices
        for threads in (sorted({1, cores}) if device == "cpu" else [1])
        for size in BATCHES
    ]
    packages = ("cnn-infer", "onnxruntime", "onnxruntime-gpu", "numpy")
    return {**conditions("latency.py MODEL...", packages), "rows": rows}


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("models", nargs="+", metavar="MODEL", help="an exported model")
    options = arguments.parse_args()
    try:
        found = report(options.models)
    except EdgeCNNError as error:
        arguments.exit(error.exit_code, f"{arguments.prog}: {error}\n")
    print(f"{found['machine']}; {', '.join(f'{key} {value}' for key, value in found['versions'].items())}")
    print(f"{'threads':>7} {'batch':>5} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'us/picture':>10} {'cv':>6}  model")
    for row in found["rows"]:
        noisy = "  NOISY" if row["cv"] > NOISY else ""
        print(
            f"{row['threads']:>7} {row['batch']:>5} {row['p50_ms']:>8.3f} {row['p90_ms']:>8.3f} {row['p99_ms']:>8.3f}"
            f" {row['us_per_picture']:>10.1f} {row['cv']:>6.1%}  {row['model']} ({row['provider']}){noisy}"
        )
    write(options.output, found)


if __name__ == "__main__":
    run_script(main)
