"""A folder of pictures, whole commands: cnn-infer against a script around PyTorch and against Ultralytics.

    python benchmarks/folder.py RUN PICTURES --output folder.json

RUN is an exported run folder, PICTURES a folder with one subfolder a class. Each command is a process of its own,
timed from start to exit, in turn, after one round that does not count: on one picture (cold start) and on all.
Peak memory is the kernel's figure for the largest process. Ultralytics is measured where it is installed, with its
smallest classifier, untrained, at the same size: its time does not depend on the weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from cnn_infer import find_pictures, machine

PYTORCH = """
import sys, torch
from pathlib import Path
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
right = 0
with torch.inference_mode():
    for batch, labels in DataLoader(folder, batch_size=64, num_workers=2):
        right += (network(batch).argmax(1) == labels).sum().item()
print(right / len(folder))
"""

ULTRALYTICS = """
import sys
from ultralytics import YOLO

model = YOLO(sys.argv[3])
for found in model.predict(sys.argv[2] + "/**/*", stream=True, imgsz=int(sys.argv[4]), batch=64, verbose=False):
    found.probs.top1
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds from start to exit, and peak resident memory in MB of the largest process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            said.seek(0)
            sys.exit(f"failed: {' '.join(command)}\n{said.read()}")
    return seconds, usage.ru_maxrss / 1024


def compare(commands: dict[str, list[str]], rounds: int) -> dict[str, dict[str, Any]]:
    """Time the commands in turn; the first round only warms the file cache."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            found = timed(command)
            if number:
                spent[name].append(found)
    return {
        name: {
            "seconds": statistics.median(seconds for seconds, _ in values),
            "least": min(seconds for seconds, _ in values),
            "most": max(seconds for seconds, _ in values),
            "peak_mb": statistics.median(memory for _, memory in values),
        }
        for name, values in spent.items()
    }


def ultralytics_command(folder: Path, run: Path) -> list[str] | None:
    """The program and its arguments behind the pictures, or None where Ultralytics is not installed."""
    if importlib.util.find_spec("ultralytics") is None:
        return None
    script, weights = folder / "predict.py", folder / "yolo11n-cls.pt"
    script.write_text(ULTRALYTICS)
    # in a process of its own: what this one has loaded would count as its children's memory
    make = f"from ultralytics import YOLO; YOLO('yolo11n-cls.yaml').save({str(weights)!r})"
    subprocess.run([sys.executable, "-c", make], check=True, stdout=subprocess.DEVNULL)
    spec = json.loads((run / "spec.json").read_text())
    size = -(-max(spec["height"], spec["width"]) // 32) * 32  # it takes multiples of 32 alone
    return [sys.executable, str(script), str(weights), str(size)]


def main() -> None:
    """Print two tables; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    files = list(find_pictures([options.pictures]))
    infer = [sys.executable, "-m", "cnn_infer"]
    with tempfile.TemporaryDirectory() as folder:
        script, one = Path(folder, "classify.py"), Path(folder, "one", "a")
        script.write_text(PYTORCH)
        yolo = ultralytics_command(Path(folder), options.run)
        one.mkdir(parents=True)
        (one / Path(files[0]).name).hardlink_to(files[0])
        results = {}
        for what, place in (("one picture", one.parent), ("all pictures", options.pictures)):
            ours = {
                name: [*infer, str(place), "--model", str(options.run / f"{name}.onnx"), "--format", "csv"]
                for name in ("model.int8", "model")
                if (options.run / f"{name}.onnx").exists()
            }
            peers = {"pytorch": [sys.executable, str(script), str(options.run), str(place)]}
            if yolo is not None:
                peers["ultralytics"] = [*yolo[:2], str(options.run), str(place), *yolo[2:]]
            results[what] = compare({**ours, **peers}, options.rounds)
    print(f"{machine.description()}; {len(files):,} pictures; medians of {options.rounds}")
    for what, rows in results.items():
        for name, row in rows.items():
            rate = f"{len(files) / row['seconds']:>8,.0f}/s" if what == "all pictures" else ""
            spread = f"({row['least']:.2f} to {row['most']:.2f})"
            print(f"{what:<13} {name:<11} {row['seconds']:>7.2f} s {spread:<18} {row['peak_mb']:>6.0f} MB {rate}")
    if options.output is not None:
        names = ["cnn-infer", "onnxruntime", "torch", "torchvision", "pillow", *(["ultralytics"] if yolo else [])]
        versions = {name: metadata.version(name) for name in names}
        document = {"machine": machine.description(), "versions": versions, "pictures": len(files), **results}
        options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
