"""Accuracy against training time: train a row of the table below with the real cnn-train, once for each random seed.

    python benchmarks/train.py --list
    python benchmarks/train.py fashion-mnist-small-4min --seeds 0 1 2 --output small.json
    python benchmarks/train.py cifar10-large-15min --data FOLDER
    python benchmarks/train.py fashion-mnist-small-4min -- --epochs 8 --lr 0.3
    python benchmarks/train.py cifar10-20-pretrained --data FOLDER
    python benchmarks/train.py --draw benchmarks/results/train.png
    python benchmarks/train.py --draw-few benchmarks/results/few_pictures.png

Rows with few pictures need ``--data``: a folder with ``train/`` and ``test/`` (or ``val/``, which is then the test
split), and one folder per class in each. Each seed draws other training pictures, and the test split is complete.

The accuracy is that of the test split, with one view of each picture. The time is ``seconds_with_preparation`` of the
run's report: from the start of training, after imports, to the end of the last epoch. It includes finding and decoding
the pictures, with an empty cache, and validation. On CUDA it is ``seconds``, the epochs alone. Times are also reported
in epochs of benchmarks/plain_net.py, measured before and after each training, because these hardly depend on the load
of the machine. Options after ``--`` are passed to cnn-train as an experiment; such a result does not count for the row
and is not drawn.
"""

from __future__ import annotations

import json
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import RESULTS
from processes import run
from report import conditions, parser, run_script, write
from train_picture import draw, draw_few
from train_rows import ROWS, Row


def arguments(row: Row, more: list[str]) -> list[str]:
    """The arguments of cnn-train, without paths and the random seed."""
    return ["--model", row.model, "--device", row.device, *shlex.split(row.options), *more]


def few_pictures(data: Path, per_class: int, seed: int, folder: Path) -> Path:
    """Link a part of a data set: ``per_class`` training pictures of each class, drawn by ``seed``, and the test split.

    Args:
        data: A folder with ``train`` and ``test``, or ``val`` in place of ``test``.
        per_class: Training pictures per class; all, if a class has fewer.
        seed: Random seed of the draw.
        folder: Where to create the folder.
    """
    if not (data / "train").is_dir():
        sys.exit(f"{data} has no folder train: name a folder with train and test (or val) by --data")
    part = folder / data.name
    for own in sorted(path for path in (data / "train").iterdir() if path.is_dir()):
        (part / "train" / own.name).mkdir(parents=True)
        files = sorted(own.iterdir())
        for file in random.Random(seed).sample(files, min(per_class, len(files))):
            (part / "train" / own.name / file.name).symlink_to(file.resolve())
    (part / "test").symlink_to((data / ("test" if (data / "test").is_dir() else "val")).resolve())
    return part


def train(name: str, data: str, given: list[str], seed: int, runs: Path) -> dict[str, Any]:
    """Train a row once, with an empty cache, and return the run's report together with its description of the ``data``.

    The run becomes ``ROW-SEED`` in the folder ``runs``. A teacher that is there already is not trained again.
    """
    row = ROWS[name]
    own, teacher = runs / f"{name}-{seed}", runs / f"{row.teacher}-{seed}"
    with tempfile.TemporaryDirectory() as folder:
        if row.per_class is not None:
            data = str(few_pictures(Path(data), row.per_class, seed, Path(folder)))
        start = [sys.executable, "-m", "cnn_train", data, "--seed", str(seed), "--overwrite"]
        if row.teacher:
            if not (teacher / "report.json").is_file():
                run([*start, *arguments(ROWS[row.teacher], []), "--cache", f"{folder}/first", "--out", str(teacher)])
            given = [*given, "--teacher", str(teacher)]
        run([*start, *given, "--cache", f"{folder}/cache", "--out", str(own)])
    report, spec = (json.loads((own / file).read_text(encoding="utf-8")) for file in ("report.json", "spec.json"))
    return {**report, "data": spec["details"]["data"]}


def spread(values: list[float]) -> dict[str, float]:
    """Mean, sample standard deviation (0 for a single value), median, minimum and maximum."""
    return {
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
    }


def plain_epoch(device: str, steps: int) -> float:
    """Estimate the seconds of an epoch of the plain net right now from ``steps`` of its steps."""
    from plain_net import STEPS_PER_EPOCH, seconds_per_step  # here, because torch takes seconds to import

    return STEPS_PER_EPOCH * seconds_per_step(device, steps)


def card(device: str) -> str | None:
    """The name of the GPU; None if training does not use one."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else None


def measure(
    name: str, data: str, given: list[str], seed: int, runs: Path, before: float, steps: int
) -> tuple[dict[str, Any], Any]:
    """Train between two measurements of the plain net.

    Args:
        name: The row of the table.
        data: The data set or its folder.
        given: The arguments of cnn-train.
        seed: The random seed.
        runs: Where the runs are kept.
        before: Seconds of an epoch of the plain net, measured before this call.
        steps: Steps of the plain net to measure after the training.

    Returns:
        The entry of this seed, and the run's report.
    """
    report = train(name, data, given, seed, runs)
    row = ROWS[name]
    after = plain_epoch(row.device, steps)
    seconds = report[row.clock]
    entry = {
        "seed": seed,
        "accuracy": report["test"]["accuracy"],
        "seconds": seconds,
        "plain_epochs": 2 * seconds / (before + after),
        "seconds_of_epochs": report["seconds"],
        "plain_epoch_before": before,
        "plain_epoch_after": after,
    }
    return entry, report


def commit() -> str:
    """The commit that is checked out, with ``-dirty`` if files differ from it."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def document(name: str, more: list[str], runs: list[dict[str, Any]], report: dict[str, Any]) -> dict[str, Any]:
    """The JSON document of a row, from the runs that are finished."""
    row = ROWS[name]
    figures = {key: spread([entry[key] for entry in runs]) for key in ("accuracy", "seconds", "plain_epochs")}
    seeds = [str(entry["seed"]) for entry in runs]
    command = shlex.join(["train.py", name, "--data", row.data, "--seeds", *seeds, *(["--", *more] if more else [])])
    return {
        "row": name,
        **asdict(row),
        "more": more,
        **conditions(command, ("cnn-train", "torch", "torchvision", "pillow", "numpy")),
        "commit": commit(),
        "card": card(row.device),
        **{key: report[key] for key in ("threads", "precision", "parameters", "epochs")},
        "pictures": report["data"]["images"],
        "fingerprints": report["data"]["fingerprints"],
        "clock": row.clock,
        **figures,
        "reached": figures["accuracy"]["mean"] >= row.target and figures["seconds"]["median"] <= row.budget,
        "runs": runs,
    }


def text(found: dict[str, Any]) -> str:
    """The document of a row as text."""
    accuracy, seconds, epochs = found["accuracy"], found["seconds"], found["plain_epochs"]
    seeds = f"{len(found['runs'])} seed" + ("s" if len(found["runs"]) > 1 else "")
    return (
        f"{found['row']}: {seeds}, {found['parameters']:,} parameters, {found['epochs']} epochs\n"
        f"  accuracy {accuracy['mean']:.2%}, standard deviation {accuracy['deviation']:.2%}; target"
        f" {found['target']:.1%}\n"
        f"  time {seconds['median']:.1f} s ({seconds['least']:.1f} to {seconds['most']:.1f});"
        f" target {found['budget']:g} s\n"
        f"  in epochs of the plain net {epochs['median']:.2f} ({epochs['least']:.2f} to {epochs['most']:.2f})\n"
        f"  {'reached' if found['reached'] else 'NOT reached'}"
    )


def benchmark(
    name: str, data: str, seeds: list[int], more: list[str], steps: int, folder: Path, output: Path | None
) -> None:
    """Train a row with each seed. The output is written after each one, because the next may take an hour."""
    row, given = ROWS[name], arguments(ROWS[name], more)
    plain = plain_epoch(row.device, steps)
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        entry, report = measure(name, data, given, seed, folder, plain, steps)
        plain = entry["plain_epoch_after"]
        runs.append(entry)
        found = document(name, more, runs, report)
        print(text(found), flush=True)
        write(output, found)


def main() -> None:
    """Train a row, list the rows, or draw the results."""
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    parsing = parser(__doc__)
    parsing.add_argument("row", nargs="?", choices=ROWS, metavar="ROW", help="a row of the table")
    parsing.add_argument("--data", help="folder of the row's data set; default: cnn-train finds it by name")
    parsing.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a training for each random seed")
    parsing.add_argument(
        "--runs", type=Path, metavar="FOLDER", help="keep the runs there, and take teachers from there"
    )
    parsing.add_argument("--steps", type=int, default=20, help="steps of the plain net before and after each training")
    parsing.add_argument("--list", action="store_true", help="list the rows")
    parsing.add_argument("--draw", type=Path, metavar="PNG", help="draw all results; train nothing")
    parsing.add_argument("--draw-few", type=Path, metavar="PNG", help="draw the rows with few pictures; train nothing")
    parsing.add_argument("--results", type=Path, default=RESULTS, help="where --draw and --draw-few find train_*.json")
    options = parsing.parse_args(own)
    if options.list:
        for name, row in ROWS.items():
            given = " ".join([row.data, *arguments(row, [])])
            print(f"{name:<28} {row.target:.1%} in {row.budget:>5,.0f} s  cnn-train {given}")
    elif options.draw is not None:
        draw(sorted(options.results.glob("train_*.json")), options.draw)
    elif options.draw_few is not None:
        draw_few(sorted(options.results.glob("train_*.json")), options.draw_few)
    elif options.row is None:
        parsing.error("name a row (--list shows them), or pass --draw or --draw-few")
    else:
        data = options.data or ROWS[options.row].data
        with tempfile.TemporaryDirectory() as scratch:
            runs = options.runs or Path(scratch)
            benchmark(options.row, data, options.seeds, more, options.steps, runs, options.output)


if __name__ == "__main__":
    run_script(main)
