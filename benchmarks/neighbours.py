"""How fast is a training alone, and how fast beside a second one? With fewer threads under load, and without.

    python benchmarks/neighbours.py PICTURES --size 96 --epochs 4 --rounds 3 --output neighbours.json

PyTorch's OpenMP threads wait for each other by spinning, which costs nothing alone and starves whoever shares the
processor: another training, a container with a quota, a laptop in use. So cnn-train uses fewer threads there. The
other ways fix their number with OMP_NUM_THREADS and bound the spinning with GOMP_SPINCOUNT or OMP_WAIT_POLICY. Each way
is measured alone and beside a second training of the same kind, in turn, in every round; the first epoch warms up and
does not count. Figures are pictures per second of one training, medians of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cnn_infer.system import machine
from report import conditions, parser, run_script, write

FIXED = {"OMP_NUM_THREADS": str(machine.usable_cpus())}
WAYS: dict[str, dict[str, str]] = {
    "adapted (default)": {},
    "fixed": FIXED,
    "fixed, spin 100": {**FIXED, "GOMP_SPINCOUNT": "100"},
    "fixed, spin 1,000": {**FIXED, "GOMP_SPINCOUNT": "1000"},
    "fixed, spin 10,000": {**FIXED, "GOMP_SPINCOUNT": "10000"},
    "fixed, passive": {**FIXED, "GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""Environment variables of each way; those that a way does not name are unset."""

VARIABLES = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def start(arguments: list[str], out: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a training in a process of its own."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | variables
    command = [sys.executable, "-c", "from cnn_train.cli import main; main()", *arguments, "--out", str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def rate(out: Path) -> float:
    """Pictures per second of the epochs after the first."""
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(epoch["images_per_second"] for epoch in epochs[1:])


def measured(arguments: list[str], together: int, variables: dict[str, str]) -> float:
    """The mean rate of so many trainings at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, str(number)) for number in range(together)]
        processes = [start(arguments, out, variables) for out in outs]
        if any(process.wait() for process in processes):
            sys.exit("a training failed: run cnn-train with the same arguments to see why")
        return statistics.mean(map(rate, outs))


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pictures", help="what cnn-train takes")
    arguments.add_argument("--size", default="96", help="input size in pixels (default: %(default)s)")
    arguments.add_argument("--model", default="small", help="the network (default: %(default)s)")
    arguments.add_argument("--epochs", type=int, default=4, help="epochs of a training (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    options = arguments.parse_args()
    given = [options.pictures, "--size", options.size, "--model", options.model, "--epochs", str(options.epochs)]
    given += ["--patience", "0"]
    rates: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in WAYS}
    for _ in range(options.rounds):
        for name, variables in WAYS.items():
            for together, found in rates[name].items():
                found.append(measured(given, together, variables))
    best = max(statistics.median(found[1]) for found in rates.values())
    rows: list[dict[str, Any]] = []
    for name, found in rates.items():
        alone, beside = (statistics.median(found[together]) for together in (1, 2))
        rows.append({"way": name, "alone": found[1], "beside": found[2]})
        share = f"({alone / best:.0%} of the best)"
        print(f"{name:<18} alone {alone:6.0f}/s {share:<18} beside a second one {beside:6.0f}/s ({beside / alone:.0%})")
    shown = {"size": options.size, "model": options.model, "epochs": options.epochs, "rounds": options.rounds}
    write(options.output, {**conditions("neighbours.py PICTURES", ("cnn-train", "torch"), **shown), "rows": rows})


if __name__ == "__main__":
    run_script(main)
