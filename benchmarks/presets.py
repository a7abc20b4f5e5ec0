"""Train and export every preset on every data set, and compare the test accuracy of int8 with that of fp32.

    python benchmarks/presets.py fashion-mnist cifar10=FOLDER digits --folder presets --output presets.json
    python benchmarks/int8.py presets/* --output int8.json
    python benchmarks/presets.py fashion-mnist cifar10=FOLDER digits --folder presets --for any vnni --output any.json

All settings are the defaults, and the real commands run. DATA is a data set that cnn-train knows, or NAME=FOLDER. Runs
that are already in --folder are kept, so an interrupted benchmark resumes. ``lost`` counts the test pictures that only
fp32 classifies correctly, ``won`` those that only int8 does; p is the p-value of McNemar's test. The int8 candidate was
chosen on the validation split, never on the test split.

With several targets (``--for any vnni``) each run is exported once for each, in a copy of its folder that has the
target in its name. Their int8 files are then timed in turn, in one process and on one thread. ``time_of_first`` is the
time of the first target's file divided by the time of this one: median and quartiles over the rounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from exports import exported, int8_file
from processes import run
from report import conditions, parser, run_script, write
from sessions import one_thread_session

PRESETS = ("nano", "small", "base")
BATCHES = (1, 64)
ROUNDS = 30
BLOCK_SECONDS = 0.05
"""Shortest time of a block of calls. A round is a block of each file."""


def entry(name: str, folder: Path) -> dict[str, Any]:
    """The row of an exported run, from its reports."""
    export, report = (
        json.loads((folder / file).read_text(encoding="utf-8")) for file in ("export.json", "report.json")
    )
    int8, test = export["int8"], export["int8"]["test"]
    content = {file: (folder / file).stat().st_size for file in (export["fp32"]["file"], int8["file"])}
    return {
        "run": folder.name,
        "data": name,
        "parameters": report["parameters"],
        "epochs": report["epochs"],
        "images": test["images"],
        **{key: test[key] for key in ("accuracy_fp32", "accuracy_int8", "drop_points", "lost", "won", "mcnemar_p")},
        "target": int8["target"],
        "recipe": int8["recipe"],
        "divergence": next(one["divergence"] for one in int8["candidates"] if one["name"] == int8["recipe"]),
        "ships": int8["verdict"]["ships"],
        "reason": int8["verdict"]["reason"],
        "speedup": {str(row["batch_size"]): row["speedup"] for row in int8["latency"]},
        "bytes": list(content.values()),
        "bytes_without_metadata": [bytes_without_metadata(folder / file) for file in content],
        "parity": export["parity"]["probabilities"]["max"],
    }


def timed_in_turn(first: Path, second: Path, batch: int) -> list[float]:
    """The time of the first file divided by the time of the second one: median and quartiles over the rounds."""
    sessions = [one_thread_session(path.read_bytes()) for path in (first, second)]
    shape = [batch, *sessions[0].get_inputs()[0].shape[1:]]
    inputs = {"image": np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    ratios = []
    for number in range(ROUNDS):
        seconds = []
        for session in sessions if number % 2 else sessions[::-1]:
            times: list[float] = []
            until = time.perf_counter() + BLOCK_SECONDS
            while time.perf_counter() < until or len(times) < 5:
                start = time.perf_counter()
                session.run(["probabilities"], inputs)
                times.append(time.perf_counter() - start)
            seconds.append(statistics.median(times))
        ratios.append(seconds[0] / seconds[1] if number % 2 else seconds[1] / seconds[0])
    return [float(value) for value in np.percentile(ratios, (50, 25, 75))]


def bytes_without_metadata(model: Path) -> int:
    """The size of a model file without its metadata (specification, golden pictures)."""
    import onnx

    loaded = onnx.load(model)
    del loaded.metadata_props[:]
    return len(loaded.SerializeToString())


def line(found: dict[str, Any]) -> str:
    """A row as one line of text."""
    small, large = found["bytes_without_metadata"][1], found["bytes_without_metadata"][0]
    return (
        f"{found['run']:<28} {found['target']:<5} {found['accuracy_fp32']:.2%} fp32  {found['accuracy_int8']:.2%} int8 "
        f"(-{found['lost']} +{found['won']}, p {found['mcnemar_p']:.2f})  {found['recipe']:<40} "
        f"{'ships' if found['ships'] else 'NOT shipped'}, {min(found['speedup'].values(), default=0):.2f}x, "
        f"file {small / large:.3f} of fp32"
        + "".join(
            f", first takes {middle:.3f} of its time at batch {batch} ({low:.3f} to {high:.3f})"
            for batch, (middle, low, high) in found["time_of_first"].items()
        )
    )


def main() -> None:
    """Train and export the missing runs, and print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("data", nargs="+", metavar="DATA", help="a data set, or NAME=FOLDER")
    arguments.add_argument("--models", nargs="+", default=PRESETS, help="presets to train")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0], help="a training for each random seed")
    arguments.add_argument("--for", dest="targets", nargs="+", default=["any"], help="targets of the int8 files")
    arguments.add_argument("--folder", required=True, type=Path, help="folder of the runs")
    options = arguments.parse_args()
    rows = []
    for data in options.data:
        name, _, place = data.rpartition("=")
        for model in options.models:
            for seed in options.seeds:
                folder = options.folder / f"{Path(name or place).name}-{model}-{seed}"
                if not (folder / "report.json").exists():
                    settings = ["--model", model, "--seed", str(seed), "--out", str(folder), "--overwrite"]
                    run([sys.executable, "-m", "cnn_train", place, *settings])
                copies = options.folder if len(options.targets) > 1 else None
                exports = [exported(folder, target, copies) for target in options.targets]
                for path in exports:
                    rows.append(entry(name or place, path))
                    rows[-1]["time_of_first"] = {
                        str(batch): timed_in_turn(int8_file(exports[0]), int8_file(path), batch)
                        for batch in BATCHES
                        if path != exports[0]
                    }
                    print(line(rows[-1]), flush=True)
    data = [f"{text.rpartition('=')[0]}=FOLDER" if "=" in text else text for text in options.data]
    head = conditions(
        f"presets.py {' '.join(data)}",
        ("cnn-export", "torch", "onnxruntime"),
        models=options.models,
        seeds=options.seeds,
        **{"for": options.targets},
        folder="FOLDER",
    )
    write(options.output, {**head, "rows": rows})


if __name__ == "__main__":
    run_script(main)
