"""What cnn-infer costs: bytes on disk, time from process start to the first result, and memory at batch size 1.

    python benchmarks/footprint.py MODEL PICTURE --output footprint.json

The wheel of this checkout and its dependencies are installed into a fresh environment, as on an edge device. Two
commands are started there in turn: ``cnn-infer PICTURE``, and a bare script that imports ONNX Runtime, NumPy and Pillow
and opens the model, which is the lower limit. The report also lists the modules that only cnn-infer loads.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import measured
from report import conditions, parser, run_script, short, write

ROOT = Path(__file__).parents[1]
WARM_UP = 2
"""Starts that are not counted; after them the libraries are in the page cache."""

BARE = "import onnxruntime, numpy, PIL.Image; onnxruntime.InferenceSession({model!r})"
MEMORY = """
import resource, sys
from cnn_infer import Classifier
classifier = Classifier(sys.argv[1])
for _ in range(100):
    classifier.predict(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def output_of(*command: str | Path) -> str:
    """What a command prints. If it fails, exit with its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def environment() -> dict[str, str]:
    """The environment of the started processes: without the Python settings of this one."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def install(folder: Path) -> Path:
    """Install cnn-infer[cpu] into a fresh virtual environment and return the path of its Python."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    output_of(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT / "infer")
    (wheel,) = folder.glob("cnn_infer-*.whl")
    output_of(sys.executable, "-m", "venv", "--without-pip", folder / "edge")
    python = folder / "edge" / "bin" / "python"
    output_of(*pip, "--python", python, "install", f"cnn-infer[cpu] @ {wheel.as_uri()}")
    return python


def installed_mb(python: Path) -> dict[str, float]:
    """Megabytes (10^6 bytes) of all packages together, and of the six largest package folders."""
    place = Path(output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    sizes = {
        entry.name: sum(file.stat().st_size for file in [entry, *entry.rglob("*")] if file.is_file()) / 1e6
        for entry in place.iterdir()
    }
    return {"all": sum(sizes.values()), **dict(sorted(sizes.items(), key=lambda item: -item[1])[:6])}


def modules(command: list[str]) -> set[str]:
    """The modules that a Python command loads."""
    done = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], capture_output=True, text=True, check=True, env=environment()
    )
    lines = (line.rpartition("|") for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {name.strip() for _, _, name in lines}


def measure(model: str, picture: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Install into ``folder`` and measure everything there."""
    python = install(folder)
    commands = {
        "bare": [str(python), "-c", BARE.format(model=model)],
        "cnn-infer": [str(python), "-m", "cnn_infer", picture, "--model", model],
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + WARM_UP):
        for name, command in commands.items():
            done = measured(command, env=environment())
            if number >= WARM_UP:
                spent[name].append((1e3 * done.seconds, 1e3 * done.processor_seconds))
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
        "resident_mb": float(output_of(python, "-c", MEMORY, model, picture)),
        "modules": sorted(modules(commands["cnn-infer"]) - modules(commands["bare"])),
        "versions": {
            name: output_of(python, "-c", f"from importlib.metadata import version; print(version({name!r}))").strip()
            for name in ("cnn-infer", "onnxruntime", "numpy", "pillow", "simplejpeg")
        },
    }


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", help="an exported model")
    arguments.add_argument("picture", help="a picture file")
    arguments.add_argument("--rounds", type=int, default=30, help="counted starts of each command")
    options = arguments.parse_args()
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
    print(
        f"cnn-infer takes {found['start_ratio']:.2f} times as long as the bare script "
        f"and loads {len(found['modules'])} modules more"
    )
    print(f"resident memory at batch size 1: {found['resident_mb']:.1f} MB")
    write(options.output, {**head, "model": short(Path(options.model)), "rounds": options.rounds, **found})


if __name__ == "__main__":
    run_script(main)
