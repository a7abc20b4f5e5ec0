"""Throughput on a folder of pictures: cnn-infer against the limit of the hardware, a PyTorch script, and Ultralytics.

    python benchmarks/folder.py RUN PICTURES --output folder.json

RUN is an exported run folder. PICTURES is a folder with one subfolder for each class; with ``--repeat N``, links make
it a folder of N pictures. Each contender is a command. The commands are timed from start to exit, in turn, on one
picture (cold start) and on all. Peak memory is the kernel's figure for the largest process of a command. The same
rounds also measure:

- ``pictures_per_second``: the rate without start-up. cnn-infer reports it, counted from the first file; for PyTorch and
  Ultralytics it is counted from the end of the first batch.
- ``decode``: the rate of reading, decoding and resizing alone, with the fastest combination of threads and processes.
- ``model``: the rate of each model file alone, on decoded pictures, with one session for each core.
- ``ceiling``: 1 / (1 / decode + 1 / model), the rate of all cores if nothing else took time.

With ``--cold`` the pictures are copies instead of links, and before each run of a command on all of them the kernel
forgets their contents, so that they come from the disk. Each model file then also runs without reading ahead. The
limits stay those of files in memory: what a perfect reading ahead would reach.

The PyTorch script runs the same network with a DataLoader of two workers. Ultralytics runs its smallest classifier at
the same size, in the Python that ``--ultralytics-python`` names. Its weights are untrained, because its time does not
depend on them. For models of photographs, any pictures in arbitrary classes will do:

    i=0; for f in photos/*; do mkdir -p classes/$((i % 5)); cp "$f" classes/$((i % 5))/; i=$((i + 1)); done
    cnn-train classes --model nano --size 64 --resize crop --epochs 1 --out photos64
    cnn-train classes --model mobilenet_v3_small --size 224 --resize crop --epochs 1 --out photos224
    cnn-export photos64; cnn-export photos224
    python benchmarks/folder.py photos64 classes --repeat 2000 --output folder_photos64.json
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Spec, open_model, to_pixels
from cnn_infer.system import machine
from contenders import commands, forms, ultralytics_command
from links import evict, link_pictures, picture_files
from processes import in_own_process, measured
from report import conditions, parser, run_script, write

BATCH = 32


def timed(command: list[str], rate_of: Callable[[str], float] | None = None) -> dict[str, float]:
    """The seconds and the peak memory of a command.

    Args:
        command: The program and its arguments.
        rate_of: A function that reads pictures per second from the output of the command.
    """
    done = measured(command)
    row = {"seconds": done.seconds, "processor_seconds": done.processor_seconds, "peak_mb": done.peak_mb}
    row["disk_mb"] = done.disk_mb
    return row if rate_of is None else {**row, "pictures_per_second": rate_of(done.stdout)}


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds, and the smallest and largest number of seconds."""
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    spread = {"least": min(seconds), "most": max(seconds)} if seconds else {}
    return {**{key: statistics.median(row[key] for row in rows) for key in rows[0]}, **spread}


def decode(paths: list[str], spec: Spec) -> None:
    """Decode and resize pictures, as one task of a worker."""
    for path in paths:
        to_pixels(path, spec)


def decode_rates(paths: list[str], spec: Spec, workers: int) -> dict[str, float]:
    """Pictures per second that one thread, a thread for each core, and a process for each core read and decode."""
    rates = {}
    pools: dict[str, Callable[[], Executor]] = {
        "1 thread": lambda: ThreadPoolExecutor(1),
        f"{workers} threads": lambda: ThreadPoolExecutor(workers),
        f"{workers} processes": lambda: ProcessPoolExecutor(workers, mp_context=get_context("spawn")),
    }
    parts = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    for name, make in pools.items():
        with make() as pool:
            # the workers start and import everything before the clock starts
            list(pool.map(decode, parts[: 4 * workers], [spec] * 4 * workers))
            start = time.perf_counter()
            list(pool.map(decode, parts, [spec] * len(parts)))
            rates[name] = len(paths) / (time.perf_counter() - start)
    return rates


def model_rate(model: str, paths: list[str], workers: int) -> float:
    """Pictures per second of the model alone, on decoded pictures, with a single-threaded session for each core."""
    sessions = [open_model(model) for _ in range(workers)]
    batch = np.stack([to_pixels(path, sessions[0].spec) for path in paths[:BATCH]])
    runs = max(4, len(paths) // BATCH // workers)

    def repeat(session: Any) -> None:
        for _ in range(runs):
            session.run(None, {"image": batch})

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda opened: opened.session.run(None, {"image": batch}), sessions))
        start = time.perf_counter()
        list(pool.map(lambda opened: repeat(opened.session), sessions))
        return runs * len(batch) * workers / (time.perf_counter() - start)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run all rounds: the commands on one picture, then the commands and the limits on all pictures."""
    spec = Spec.from_json((options.run / "spec.json").read_text(encoding="utf-8"))
    pictures, workers = options.pictures, machine.usable_cpus()
    files = picture_files(pictures)
    if options.repeat:
        files = link_pictures(files, pictures, options.repeat, scratch / "all", copies=options.cold)
        pictures = scratch / "all"
    one = scratch / "one" / "a"
    one.mkdir(parents=True)
    (one / Path(files[0]).name).symlink_to(Path(files[0]).resolve())
    yolo = ultralytics_command(options.ultralytics_python, scratch, max(spec.height, spec.width))
    alone = {name: command for name, (command, _) in commands(options.run, one.parent, scratch, yolo).items()}
    for command in alone.values():
        timed(command)  # loads programs and libraries into the page cache
    single: dict[str, list[Any]] = {name: [] for name in alone}
    every: dict[str, list[Any]] = {}
    for _ in range(options.rounds):
        for name, command in alone.items():
            single[name].append(timed(command))
    for _ in range(options.rounds):
        # in processes of their own: what this one loads would count as memory of the commands that it starts
        rates = in_own_process(decode_rates, files, spec, workers)
        every.setdefault("decode", []).append({**rates, "pictures_per_second": max(rates.values())})
        for name, (command, rate_of) in commands(options.run, pictures, scratch, yolo, cold=options.cold).items():
            if options.cold:
                evict(files)
            every.setdefault(name, []).append(timed(command, rate_of))
        for name in forms(options.run):
            rate = in_own_process(model_rate, str(options.run / f"{name}.onnx"), files, workers)
            best = max(rates.values())
            row = {"pictures_per_second": rate, "ceiling": 1 / (1 / best + 1 / rate)}
            row["share"] = every[name][-1]["pictures_per_second"] / row["ceiling"]
            if options.cold and not every[name][-1]["disk_mb"]:
                sys.exit("failed: no picture came from a disk (set TMPDIR to a folder that is not in memory)")
            every.setdefault(f"{name} alone", []).append(row)
    return {
        "pictures": len(files),
        "pixels": f"{spec.width} x {spec.height}",
        "one picture": {name: summary(rows) for name, rows in single.items()},
        "all pictures": {name: summary(rows) for name, rows in every.items()},
    }


def show(found: dict[str, Any]) -> None:
    """Print a line for each row, and the comparisons."""
    for what in ("one picture", "all pictures"):
        for name, row in found[what].items():
            text = f"{what:<13} {name:<17}"
            if "seconds" in row:
                text += f" {row['seconds']:>7.2f} s ({row['least']:.2f} to {row['most']:.2f}) {row['peak_mb']:>6.0f} MB"
            if "pictures_per_second" in row:
                text += f" {row['pictures_per_second']:>9,.0f}/s"
            if "share" in row:
                text += f", ceiling {row['ceiling']:,.0f}/s; cnn-infer reaches {row['share']:.1%} of it"
            print(text)
    rows = found["all pictures"]
    for name, peer in product(rows, ("pytorch", "ultralytics")):
        if f"{name} alone" in rows and peer in rows:
            times = rows[name]["pictures_per_second"] / rows[peer]["pictures_per_second"]
            print(f"{name} is {times:.1f} times as fast as {peer}")


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("run", type=Path, help="an exported run folder")
    arguments.add_argument("pictures", type=Path, help="a folder with one subfolder for each class")
    arguments.add_argument("--repeat", type=int, metavar="N", help="use N links to the pictures")
    arguments.add_argument("--cold", action="store_true", help="pictures come from the disk, not from memory")
    arguments.add_argument("--rounds", type=int, default=3, help="measurements of each command")
    arguments.add_argument("--ultralytics-python", metavar="PATH", help="the Python of an environment with Ultralytics")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    head = conditions(
        "folder.py RUN PICTURES" + " --cold" * options.cold,
        ("cnn-infer", "onnxruntime", "torch", "torchvision", "pillow", "simplejpeg", "numpy"),
        repeat=options.repeat,
        rounds=options.rounds,
        ultralytics_python="PYTHON" if options.ultralytics_python else None,
    )
    if options.ultralytics_python:
        code = "from importlib.metadata import version; print(version('ultralytics'))"
        asked = subprocess.run([options.ultralytics_python, "-c", code], check=True, capture_output=True, text=True)
        head["versions"]["ultralytics"] = asked.stdout.strip()
    print(f"{head['machine']}; {found['pictures']:,} pictures; medians of {options.rounds}")
    show(found)
    write(options.output, {**head, "rounds": options.rounds, **found})


if __name__ == "__main__":
    run_script(main)
