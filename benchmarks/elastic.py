"""Accuracy of a training on two nodes, and on two of which one is lost and joins again, beside one process.

    python benchmarks/elastic.py FOLDER --seeds 0 1 2 --output elastic.json

FOLDER has the four files of Fashion-MNIST. The training set is its first 6,000 pictures, the test set is complete. The
nodes are two torchrun agents on this machine, each on a processor of its own where there are two. With a lost node, the
second agent and its process are killed (SIGKILL) after three epochs, the first trains three epochs alone, and the same
command is started again. Times do not matter, so the machine need not be quiet.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import conditions, parser, run_script, write

PICTURES, EPOCHS, ALONE = 6_000, 12, 3
FLAGS = ("data", "--model", "nano", "--epochs", str(EPOCHS), "--precision", "fp32", "--device", "cpu")
RENDEZVOUS = "last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3"
ENVIRONMENT = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def write_part(source: Path, folder: Path) -> None:
    """Write the first pictures of the training set and the whole test set as IDX files."""
    folder.mkdir()
    for name, header, size in (("train-images-idx3-ubyte", 16, 28 * 28), ("train-labels-idx1-ubyte", 8, 1)):
        content = gzip.decompress((source / f"{name}.gz").read_bytes())
        start = content[:4] + PICTURES.to_bytes(4, "big") + content[8:header]
        (folder / name).write_bytes(start + content[header : header + PICTURES * size])
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (folder / name).write_bytes((source / name).read_bytes())


def start(folder: Path, name: str, launcher: list[str], core: int | None, seed: int) -> subprocess.Popen[bytes]:
    """Start the training in a folder; its output goes to NAME.log."""
    command = [sys.executable, *launcher, "-m", "cnn_train", *FLAGS, "--seed", str(seed), "--out", "run"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=log)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    return process


def agent(nodes: str, port: int, *, host: bool) -> list[str]:
    """The start of the command line of a torchrun agent."""
    options = ["--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"]
    options += ["--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job"]
    return ["-m", "torch.distributed.run", *options, "--rdzv-conf", f"is_host={int(host)},{RENDEZVOUS}"]


def epochs(folder: Path) -> int:
    """The number of epochs that were printed."""
    text = "\n".join(log.read_text() for log in folder.glob("*.log"))
    return len(re.findall(rf"^epoch +\d+ of {EPOCHS},", text, re.M))


def wait_for(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many epochs were printed."""
    while epochs(folder) < number and process.poll() is None:
        time.sleep(0.1)


def train(case: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train once; return what its report says."""
    cores = sorted(os.sched_getaffinity(0))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    if case == "one process":
        running = [start(folder, "one", [], None, seed)]
    else:
        nodes = "2" if case == "two nodes" else "1:2"
        first = start(folder, "first", agent(nodes, port, host=True), cores[0], seed)
        second = start(folder, "second", agent(nodes, port, host=False), cores[-1], seed)
        if case == "a node lost":
            wait_for(folder, ALONE, first)
            children = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text().split()
            for pid in (second.pid, *map(int, children)):
                os.kill(pid, signal.SIGKILL)
            second.wait()
            wait_for(folder, epochs(folder) + ALONE, first)
            second = start(folder, "again", agent(nodes, port, host=False), cores[-1], seed)
        running = [first, second]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("\n".join(log.read_text() for log in folder.glob("*.log")))
    report = json.loads((folder / "run" / "report.json").read_text())
    test = report["test"]
    return {
        "case": case,
        "seed": seed,
        "accuracy": test["accuracy"],
        "loss": test["loss"],
        "processes_at_the_end": report["processes"],
        "epochs": report["epochs"],
    }


def main() -> None:
    """Train each case with each seed."""
    parsing = parser(__doc__)
    parsing.add_argument("folder", type=Path, metavar="FOLDER", help="the files of Fashion-MNIST")
    parsing.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="a training for each random seed")
    options = parsing.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for case in ("one process", "two nodes", "a node lost"):
            with tempfile.TemporaryDirectory() as folder:
                write_part(options.folder, Path(folder, "data"))
                rows.append(train(case, seed, Path(folder)))
            print(json.dumps(rows[-1]), flush=True)
    cases = {row["case"]: [other["accuracy"] for other in rows if other["case"] == row["case"]] for row in rows}
    means = {case: statistics.mean(values) for case, values in cases.items()}
    document = conditions("elastic.py FOLDER", ["torch", "numpy"], seeds=options.seeds)
    write(options.output, {**document, "training_pictures": PICTURES, "rows": rows, "mean_accuracy": means})


if __name__ == "__main__":
    run_script(main)
