"""Accuracy for time: trains a row of the table below with the real cnn-train, once for each seed.

    python benchmarks/train.py --list
    python benchmarks/train.py fashion-mnist-small-4min --seeds 0 1 2 --output small.json
    python benchmarks/train.py cifar10-large-15min --data FOLDER
    python benchmarks/train.py fashion-mnist-small-4min -- --epochs 8 --lr 0.3
    python benchmarks/train.py --draw benchmarks/results/train.png

Accuracy is that of the test split, each picture seen once. Time is ``seconds_with_preparation`` of the run's report:
from the start of training, after imports, to the end of the last epoch. Finding and decoding the pictures, with an
empty cache, and validation count. On CUDA it is ``seconds``, the epochs alone. Times are also given in epochs of
benchmarks/plain_net.py, measured before and after each training: those hardly depend on how busy the machine is.
What follows ``--`` goes to cnn-train as well, to try something; such a result is not the row's and is not drawn.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conditions import conditions
from train_picture import draw

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """A row of the table: what is trained, and what it must reach.

    Attributes:
        data: A named data set, or what ``--data`` must name a folder of.
        model: As cnn-train knows it.
        options: What else cnn-train is told.
        target: Mean test accuracy to reach, 0 to 1.
        budget: Median seconds that it may take.
        device: ``cpu`` or ``cuda``.
    """

    data: str
    model: str
    options: str
    target: float
    budget: float
    device: str = "cpu"

    @property
    def clock(self) -> str:
        """Which of the report's times counts."""
        return "seconds_with_preparation" if self.device == "cpu" else "seconds"


ROWS = {
    "digits-nano": Row("digits", "nano", "--epochs 8", 0.90, 10),
    "fashion-mnist-nano-90s": Row("fashion-mnist", "nano", "", 0.930, 90),
    "fashion-mnist-small-4min": Row("fashion-mnist", "small", "", 0.940, 240),
    "fashion-mnist-small-10min": Row("fashion-mnist", "small", "--epochs 36", 0.945, 600),
    "fashion-mnist-base-1h": Row("fashion-mnist", "base", "--epochs 75 --augment flip,crop,cutout", 0.955, 3600),
    "cifar10-large-15min": Row("cifar10", "large", "--epochs 25", 0.895, 900),
    "cifar10-large-1h": Row("cifar10", "large", "--epochs 60", 0.920, 3600),
    "cifar10-large-gpu-5s": Row("cifar10", "large", "--epochs 25", 0.895, 5, "cuda"),
    "cifar10-large-gpu-1min": Row("cifar10", "large", "--epochs 100", 0.920, 60, "cuda"),
    "fashion-mnist-base-gpu-2min": Row(
        "fashion-mnist", "base", "--epochs 75 --augment flip,crop,cutout", 0.955, 120, "cuda"
    ),
}


def arguments(row: Row, more: list[str]) -> list[str]:
    """What cnn-train is told, but for places and the seed."""
    return ["--model", row.model, "--device", row.device, *shlex.split(row.options), *more]


def trained(data: str, told: list[str], seed: int) -> dict[str, Any]:
    """Train once, with an empty cache; the run's report, and what its specification says of the ``data``."""
    with tempfile.TemporaryDirectory() as folder:
        places = ["--cache", f"{folder}/cache", "--out", f"{folder}/run"]
        command = [sys.executable, "-m", "cnn_train", data, *told, "--seed", str(seed), *places]
        code = subprocess.run(command, check=False).returncode
        if code:
            sys.exit(code)
        report, spec = (
            json.loads(Path(folder, "run", name).read_text(encoding="utf-8")) for name in ("report.json", "spec.json")
        )
    return {**report, "data": spec["details"]["data"]}


def spread(values: list[float]) -> dict[str, float]:
    """Mean, sample standard deviation (0 of a single one), median, least and most."""
    return {
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
    }


def plain_epoch(device: str, steps: int) -> float:
    """Seconds that an epoch of the plain net takes at this moment, from some steps of it."""
    from plain_net import STEPS_PER_EPOCH, seconds_per_step  # torch takes seconds to import

    return STEPS_PER_EPOCH * seconds_per_step(device, steps)


def card(device: str) -> str | None:
    """The name of the card, or None where there is none in use."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else None


def measured(row: Row, data: str, told: list[str], seed: int, before: float, steps: int) -> tuple[dict[str, Any], Any]:
    """One training between two measurements of the plain net; its entry, and the run's report."""
    report = trained(data, told, seed)
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
    """The commit that is checked out, with ``-dirty`` where files differ from it."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def document(name: str, more: list[str], runs: list[dict[str, Any]], report: dict[str, Any]) -> dict[str, Any]:
    """All that is known of a row after some of its seeds."""
    row = ROWS[name]
    figures = {key: spread([run[key] for run in runs]) for key in ("accuracy", "seconds", "plain_epochs")}
    seeds = [str(run["seed"]) for run in runs]
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
    """The result for a person."""
    accuracy, seconds, epochs = found["accuracy"], found["seconds"], found["plain_epochs"]
    return (
        f"{found['row']}: {len(found['runs'])} seeds, {found['parameters']:,} parameters, {found['epochs']} epochs\n"
        f"  accuracy {accuracy['mean']:.2%}, deviation {accuracy['deviation']:.2%}; wanted {found['target']:.1%}\n"
        f"  time {seconds['median']:.1f} s ({seconds['least']:.1f} to {seconds['most']:.1f});"
        f" wanted {found['budget']:g}\n"
        f"  in epochs of the plain net {epochs['median']:.2f} ({epochs['least']:.2f} to {epochs['most']:.2f})\n"
        f"  {'reached' if found['reached'] else 'NOT reached'}"
    )


def benchmark(name: str, data: str, seeds: list[int], more: list[str], steps: int, output: Path | None) -> None:
    """Train a row with each seed; the result is written anew after each, since the next may take an hour."""
    row, told = ROWS[name], arguments(ROWS[name], more)
    plain = plain_epoch(row.device, steps)
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        entry, report = measured(row, data, told, seed, plain, steps)
        plain = entry["plain_epoch_after"]
        runs.append(entry)
        found = document(name, more, runs, report)
        print(text(found), flush=True)
        if output is not None:
            output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train a row, list them, or draw the results."""
    own, more = sys.argv[1:], []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="?", choices=ROWS, metavar="ROW")
    parser.add_argument("--data", help="where the row's data set lies; default: its name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20, help="of the plain net, before and after each training")
    parser.add_argument("--output", type=Path, help="write the result there as JSON")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--draw", type=Path, metavar="PICTURE", help="draw all results as a PNG file")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where --draw finds train_*.json")
    options = parser.parse_args(own)
    if options.list:
        for name, row in ROWS.items():
            told = " ".join([row.data, *arguments(row, [])])
            print(f"{name:<28} {row.target:.1%} in {row.budget:>5,.0f} s  cnn-train {told}")
    elif options.draw is not None:
        draw(sorted(options.results.glob("train_*.json")), options.draw)
    elif options.row is None:
        parser.error("name a row (--list shows them), or pass --draw")
    else:
        data = options.data or ROWS[options.row].data
        benchmark(options.row, data, options.seeds, more, options.steps, options.output)


if __name__ == "__main__":
    main()
