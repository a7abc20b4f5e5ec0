"""What cnn-infer takes: bytes on the disk, time from process start to the first result, and memory at batch 1.

    python benchmarks/footprint.py MODEL PICTURE --output footprint.json

The wheel of this checkout and all it needs are installed into a fresh environment, as on a box. There two commands are
started in turn: ``cnn-infer PICTURE``, and a bare script that imports ONNX Runtime, NumPy and Pillow and opens the
model, which nothing can be faster than. The modules that only cnn-infer loads are listed.
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
from pathlib import Path
from typing import Any

from conditions import conditions, short

ROOT = Path(__file__).parents[1]
BARE = "import onnxruntime, numpy, PIL.Image; onnxruntime.InferenceSession({model!r})"
MEMORY = """
import resource, sys
from cnn_infer import Classifier
classifier = Classifier(sys.argv[1])
for _ in range(100):
    classifier.predict(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def said(*command: str | Path) -> str:
    """What a command prints; ends this one where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment() -> dict[str, str]:
    """Of the processes that are started: nothing of this one's Python."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def install(folder: Path) -> Path:
    """A fresh environment with cnn-infer[cpu]; its Python."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    said(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT / "infer")
    (wheel,) = folder.glob("cnn_infer-*.whl")
    said(sys.executable, "-m", "venv", "--without-pip", folder / "edge")
    python = folder / "edge" / "bin" / "python"
    said(*pip, "--python", python, "install", f"cnn-infer[cpu] @ {wheel.as_uri()}")
    return python


def installed_mb(python: Path) -> dict[str, float]:
    """Megabytes (10^6 bytes) of each package folder, the largest first, and of all."""
    place = Path(said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    sizes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file()) / 1e6
        for entry in place.iterdir()
    }
    return {"all": sum(sizes.values()), **dict(sorted(sizes.items(), key=lambda item: -item[1])[:6])}


def start(command: list[str]) -> tuple[float, float]:
    """Milliseconds from start to exit, by the clock and of processor time."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(command)}")
    return 1e3 * (time.perf_counter() - begun), 1e3 * (usage.ru_utime + usage.ru_stime)


def modules(command: list[str]) -> set[str]:
    """The modules that a Python command loads."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True, env=environment()
    )
    lines = (line.rpartition("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.strip() for _, _, name in lines}


def measure(model: str, picture: str, rounds: int, folder: Path) -> dict[str, Any]:
    """All of it, in one environment."""
    python = install(folder)
    commands = {
        "bare": [str(python), "-c", BARE.format(model=model)],
        "cnn-infer": [str(python), "-m", "cnn_infer", picture, "--model", model],
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 2):
        for name, command in commands.items():
            found = start(command)
            if number >= 2:  # libraries are in memory
                spent[name].append(found)
    times = {
        name: {
            "ms": statistics.median(wall for wall, _ in values),
            "quartiles_ms": statistics.quantiles((wall for wall, _ in values), n=4)[::2],
            "processor_ms": statistics.median(cpu for _, cpu in values),
        }
        for name, values in spent.items()
    }
    ratios = [ours / bare for (ours, _), (bare, _) in zip(spent["cnn-infer"], spent["bare"], strict=True)]
    return {
        "installed_mb": installed_mb(python),
        "start": times,
        "start_ratio": statistics.median(ratios),
        "resident_mb": float(said(python, "-c", MEMORY, model, picture)),
        "modules": sorted(modules(commands["cnn-infer"]) - modules(commands["bare"])),
        "versions": {
            name: said(python, "-c", f"from importlib.metadata import version; print(version({name!r}))").strip()
            for name in ("cnn-infer", "onnxruntime", "numpy", "pillow", "simplejpeg")
        },
    }


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("picture")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.model, options.picture, options.rounds, Path(folder))
    head = conditions("footprint.py MODEL PICTURE", rounds=options.rounds)
    print(f"{head['machine']}; medians of {options.rounds} starts")
    print("installed: " + ", ".join(f"{name} {size:.1f} MB" for name, size in found["installed_mb"].items()))
    for name, row in found["start"].items():
        low, high = row["quartiles_ms"]
        print(
            f"{name:<9} {row['ms']:6.0f} ms ({low:.0f} to {high:.0f}), {row['processor_ms']:.0f} ms of processor time"
        )
    print(f"cnn-infer takes {found['start_ratio']:.2f} times as long; it alone loads {len(found['modules'])} modules")
    print(f"resident at batch 1: {found['resident_mb']:.1f} MB")
    if options.output is not None:
        document = {**head, "model": short(Path(options.model)), "rounds": options.rounds, **found}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
