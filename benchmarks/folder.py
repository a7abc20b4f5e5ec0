"""A folder of pictures: cnn-infer against what the processors could do at best, a PyTorch script, and Ultralytics.

    python benchmarks/folder.py RUN PICTURES --output folder.json

RUN is an exported run folder, PICTURES a folder with one subfolder a class; with ``--repeat N`` it is linked to be N
pictures. Whole commands, each a process of its own, are timed from start to exit, in turn: on one picture (cold start)
and on all. Peak memory is the kernel's figure for the largest process. In the same rounds:

- ``pictures_per_second`` is the rate of the loop alone, without starting up: as cnn-infer reports it, from the first
  file on; of PyTorch and Ultralytics from the first batch's end on.
- ``decode``: reading, decoding and resizing alone, by the fastest arrangement of threads and processes.
- ``model``: each form of the model alone, one session a processor, on decoded pictures.
- ``ceiling``: 1 / (1 / decode + 1 / model), what all processors together can do where nothing else costs anything.

PyTorch feeds the same network from a DataLoader with two workers. Ultralytics predicts with its smallest classifier,
untrained (its time does not depend on the weights), at the same size, in the Python that ``--ultralytics-python``
names. Models for photographs can be made of any, in made-up classes:

    i=0; for f in photos/*; do mkdir -p classes/$((i % 5)); cp "$f" classes/$((i % 5))/; i=$((i + 1)); done
    cnn-train classes --model nano --size 64 --resize crop --epochs 1 --out photos64
    cnn-train classes --model mobilenet_v3_small --size 224 --resize crop --epochs 1 --out photos224
    cnn-export photos64; cnn-export photos224
    python benchmarks/folder.py photos64 classes --repeat 2000 --output folder_photos64.json
"""

from __future__ import annotations

import argparse
import json
import os
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
from cnn_infer import Spec, find_pictures, open_model, to_pixels
from cnn_infer.system import machine
from conditions import conditions

BATCH = 32
PYTORCH = """
import sys, time, torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from cnn_train import Run

run, pictures = Run.open(sys.argv[1]), sys.argv[2]
spec, network = run.spec, run.network()
steps = [
    *([transforms.Grayscale()] if spec.channels == 1 else []),
    transforms.Resize(min(spec.height, spec.width)), transforms.CenterCrop((spec.height, spec.width)),
    transforms.PILToTensor(), transforms.Lambda(lambda x: (x.float() - spec.zero_point) * spec.scale),
]
folder = datasets.ImageFolder(pictures, transforms.Compose(steps))
right = seen = first = 0
with torch.inference_mode():
    for batch, labels in DataLoader(folder, batch_size=64, num_workers=2):
        right += (network(batch).argmax(1) == labels).sum().item()
        start, first, seen = (start, first, seen + len(batch)) if seen else (time.time(), len(batch), len(batch))
print((seen - first) / (time.time() - start))
"""

ULTRALYTICS = """
import sys, time
from ultralytics import YOLO

model = YOLO(sys.argv[3])
seen = 0
for found in model.predict(sys.argv[2] + "/**/*", stream=True, imgsz=int(sys.argv[4]), batch=64, verbose=False):
    found.probs.top1
    start, seen = (start, seen + 1) if seen else (time.time(), 1)
print((seen - 1) / (time.time() - start))
"""


def timed(command: list[str], rate_of: Callable[[str], float] | None = None) -> dict[str, float]:
    """Run a command; ``rate_of`` reads its own figure from what it prints."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        for stream in (said, printed):
            stream.seek(0)
        if status:
            sys.exit(f"failed: {' '.join(command)}\n{said.read()}")
        row = {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024}
        return row if rate_of is None else {**row, "pictures_per_second": rate_of(printed.read())}


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the rounds, and the least and the most seconds."""
    seconds = [row["seconds"] for row in rows if "seconds" in row]
    spread = {"least": min(seconds), "most": max(seconds)} if seconds else {}
    return {**{key: statistics.median(row[key] for row in rows) for key in rows[0]}, **spread}


def decode(paths: list[str], spec: Spec) -> None:
    """What a worker does that only decodes."""
    for path in paths:
        to_pixels(path, spec)


def decode_rates(paths: list[str], spec: Spec, workers: int) -> dict[str, float]:
    """Pictures a second, read and decoded by one thread, by a thread or a process for each processor."""
    rates = {}
    pools: dict[str, Callable[[], Executor]] = {
        "1 thread": lambda: ThreadPoolExecutor(1),
        f"{workers} threads": lambda: ThreadPoolExecutor(workers),
        f"{workers} processes": lambda: ProcessPoolExecutor(workers, mp_context=get_context("spawn")),
    }
    parts = [paths[at : at + BATCH] for at in range(0, len(paths), BATCH)]
    for name, made in pools.items():
        with made() as pool:
            # all workers are up and have loaded what they need before the clock starts
            list(pool.map(decode, parts[: 4 * workers], [spec] * 4 * workers))
            start = time.perf_counter()
            list(pool.map(decode, parts, [spec] * len(parts)))
            rates[name] = len(paths) / (time.perf_counter() - start)
    return rates


def model_rate(model: str, paths: list[str], workers: int) -> float:
    """Pictures a second through sessions of one thread, one a processor, on decoded pictures."""
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


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What this process loads would count as memory of the commands that it starts."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def link(files: list[str], pictures: Path, count: int, folder: Path) -> list[str]:
    """``count`` links to the files, in folders as theirs."""
    made = []
    for number in range(count):
        source = Path(files[number % len(files)])
        target = folder / source.relative_to(pictures).parent / f"{number // len(files):04}-{source.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:  # of another disk
            target.symlink_to(source.resolve())
        made.append(str(target))
    return made


def commands(run: Path, place: Path, scratch: Path, yolo: list[str]) -> dict[str, tuple[list[str], Any]]:
    """What is compared on a folder: each command, and how its own figure is read."""
    report = scratch / "report.json"
    found: dict[str, tuple[list[str], Any]] = {}
    for name in forms(run):
        command = [sys.executable, "-m", "cnn_infer", str(place), "--model", str(run / f"{name}.onnx")]
        command += ["--format", "csv", "--report", str(report)]
        found[name] = (command, lambda _: json.loads(report.read_text())["images_per_second"])
    (scratch / "classify.py").write_text(PYTORCH)
    found["pytorch"] = ([sys.executable, str(scratch / "classify.py"), str(run), str(place)], float)
    if yolo:
        found["ultralytics"] = ([*yolo[:2], str(run), str(place), *yolo[2:]], lambda said: float(said.split()[-1]))
    return found


def forms(run: Path) -> list[str]:
    """The models of a run."""
    return [name for name in ("model.int8", "model") if (run / f"{name}.onnx").exists()]


def ultralytics_command(python: str | None, scratch: Path, size: int) -> list[str]:
    """The program and its arguments behind the pictures; empty where it is not to be measured."""
    if python is None:
        return []
    script, weights = scratch / "predict.py", scratch / "yolo11n-cls.pt"
    script.write_text(ULTRALYTICS)
    make = f"from ultralytics import YOLO; YOLO('yolo11n-cls.yaml').save({str(weights)!r})"
    subprocess.run([python, "-c", make], check=True, stdout=subprocess.DEVNULL)
    return [python, str(script), str(weights), str(-(-size // 32) * 32)]  # it takes multiples of 32 alone


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All rounds: commands in turn on one picture, then commands and ceilings in turn on all."""
    spec = Spec.from_json((options.run / "spec.json").read_text(encoding="utf-8"))
    pictures, workers = options.pictures, machine.usable_cpus()
    files = list(find_pictures([pictures]))
    if options.repeat:
        files, pictures = link(files, pictures, options.repeat, scratch / "all"), scratch / "all"
    one = scratch / "one" / "a"
    one.mkdir(parents=True)
    (one / Path(files[0]).name).symlink_to(Path(files[0]).resolve())
    yolo = ultralytics_command(options.ultralytics_python, scratch, max(spec.height, spec.width))
    alone = {name: command for name, (command, _) in commands(options.run, one.parent, scratch, yolo).items()}
    for command in alone.values():
        timed(command)  # programs and libraries are in memory from now on
    single: dict[str, list[Any]] = {name: [] for name in alone}
    every: dict[str, list[Any]] = {}
    for _ in range(options.rounds):
        for name, command in alone.items():
            single[name].append(timed(command))
    for _ in range(options.rounds):
        rates = in_own_process(decode_rates, files, spec, workers)
        every.setdefault("decode", []).append({**rates, "pictures_per_second": max(rates.values())})
        for name, (command, rate_of) in commands(options.run, pictures, scratch, yolo).items():
            every.setdefault(name, []).append(timed(command, rate_of))
        for name in forms(options.run):
            rate = in_own_process(model_rate, str(options.run / f"{name}.onnx"), files, workers)
            best = max(rates.values())
            row = {"pictures_per_second": rate, "ceiling": 1 / (1 / best + 1 / rate)}
            row["share"] = every[name][-1]["pictures_per_second"] / row["ceiling"]
            every.setdefault(f"{name} alone", []).append(row)
    return {
        "pictures": len(files),
        "pixels": f"{spec.width} x {spec.height}",
        "one picture": {name: summary(rows) for name, rows in single.items()},
        "all pictures": {name: summary(rows) for name, rows in every.items()},
    }


def show(found: dict[str, Any]) -> None:
    """A line for each row."""
    for what in ("one picture", "all pictures"):
        for name, row in found[what].items():
            text = f"{what:<13} {name:<17}"
            if "seconds" in row:
                text += f" {row['seconds']:>7.2f} s ({row['least']:.2f} to {row['most']:.2f}) {row['peak_mb']:>6.0f} MB"
            if "pictures_per_second" in row:
                text += f" {row['pictures_per_second']:>9,.0f}/s"
            if "share" in row:
                text += f", ceiling {row['ceiling']:,.0f}/s, of which cnn-infer reaches {row['share']:.1%}"
            print(text)
    rows = found["all pictures"]
    for name, peer in product(rows, ("pytorch", "ultralytics")):
        if f"{name} alone" in rows and peer in rows:
            times = rows[name]["pictures_per_second"] / rows[peer]["pictures_per_second"]
            print(f"{name} is {times:.1f} times as fast as {peer}")


def main() -> None:
    """Print a table; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--repeat", type=int, help="link the pictures to be so many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ultralytics-python", metavar="PATH", help="a Python that has Ultralytics")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    head = conditions(
        "folder.py RUN PICTURES",
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
    if options.output is not None:
        document = {**head, "rounds": options.rounds, **found}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
