"""The programs that benchmarks/folder.py compares: cnn-infer, a PyTorch script and Ultralytics."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

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

NOT_AHEAD = """
from cnn_infer.__main__ import main
from cnn_infer.system import disk_cache

disk_cache.read_ahead = iter
main()
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


def commands(
    run: Path, place: Path, scratch: Path, yolo: list[str], *, cold: bool = False
) -> dict[str, tuple[list[str], Any]]:
    """The contenders on the folder ``place``: for each its command, and a function that reads its rate.

    Args:
        run: The exported run folder.
        place: The folder of pictures.
        scratch: A folder for scripts and reports.
        yolo: The result of :func:`ultralytics_command`.
        cold: Whether cnn-infer also runs without reading ahead.
    """
    report = scratch / "report.json"
    found: dict[str, tuple[list[str], Any]] = {}
    (scratch / "not_ahead.py").write_text(NOT_AHEAD)
    programs = {"": ["-m", "cnn_infer"], **({", not ahead": [str(scratch / "not_ahead.py")]} if cold else {})}
    for name, (way, program) in product(forms(run), programs.items()):
        command = [sys.executable, *program, str(place), "--model", str(run / f"{name}.onnx")]
        command += ["--format", "csv", "--report", str(report)]
        found[name + way] = (command, lambda _: json.loads(report.read_text())["images_per_second"])
    (scratch / "classify.py").write_text(PYTORCH)
    found["pytorch"] = ([sys.executable, str(scratch / "classify.py"), str(run), str(place)], float)
    if yolo:
        found["ultralytics"] = ([*yolo[:2], str(run), str(place), *yolo[2:]], lambda output: float(output.split()[-1]))
    return found


def forms(run: Path) -> list[str]:
    """The names of the model files of a run, without ``.onnx``."""
    return [name for name in ("model.int8", "model") if (run / f"{name}.onnx").exists()]


def ultralytics_command(python: str | None, scratch: Path, size: int) -> list[str]:
    """The words of the Ultralytics command: the first two come before the run and the pictures, the rest after them.

    The list is empty if ``python`` is None. ``size`` is the side of the pictures in pixels.
    """
    if python is None:
        return []
    script, weights = scratch / "predict.py", scratch / "yolo11n-cls.pt"
    script.write_text(ULTRALYTICS)
    make = f"from ultralytics import YOLO; YOLO('yolo11n-cls.yaml').save({str(weights)!r})"
    subprocess.run([python, "-c", make], check=True, stdout=subprocess.DEVNULL)
    return [python, str(script), str(weights), str(-(-size // 32) * 32)]  # only multiples of 32 are allowed
