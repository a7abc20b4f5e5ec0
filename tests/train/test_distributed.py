"""Two processes under torchrun: the accuracy of one within noise, every picture counted once, one of them prints."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cnn_infer.system.machine import usable_cpus
from cnn_train import Dataset, Run
from cnn_train.network.logits import logits_of

FLAGS = ("digits", "--model", "nano", "--epochs", "8", "--batch-size", "96", "--precision", "fp32", "--device", "cpu")


# Python runs sitecustomize at its start: the second process records what it writes or creates in the run folder
WATCH = """
import os, sys
if os.environ.get("RANK") == "1":
    notes = os.open("second.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    run = os.path.abspath("run")
    def note(event, arguments):
        writes = event in ("os.mkdir", "os.rename", "os.remove") or (
            event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes and isinstance(arguments[0], (str, os.PathLike)) and os.path.abspath(arguments[0]).startswith(run):
            os.write(notes, f"{event} {arguments[0]}\\n".encode())
    sys.addaudithook(note)
"""


class Together:
    """cnn-train under torchrun, in two processes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        (folder / "sitecustomize.py").write_text(WATCH)
        found = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cnn_train"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": found},
            stderr=subprocess.PIPE,
            text=True,
        )

    def after_an_epoch(self) -> None:
        assert self.process.stderr is not None
        assert any(line.startswith("epoch ") for line in self.process.stderr)

    def processes(self) -> list[int]:
        """The process ids of the training, by rank."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ranks = {}
        for pid in map(int, pids):
            pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            ranks[int(dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair).get(b"RANK", b"-1"))] = pid
        return [ranks[0], ranks[1]]

    def end(self) -> str:
        """Wait for the end; return what was printed."""
        _, text = self.process.communicate(timeout=180)
        return text


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Together]]:
    folder = tmp_path_factory.mktemp("together")
    begun: list[Together] = []

    def begin(*arguments: str) -> Together:
        begun.append(Together(folder, *arguments))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.terminate()  # torchrun ends its processes
        one.process.communicate()


def own_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("cnn-train: ")]


@pytest.fixture(scope="module")
def ends(together: Callable[..., Together], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One training: it loses a process, is resumed and interrupted, and is resumed to its end."""
    first = together(*FLAGS, "--out", "run")
    first.after_an_epoch()
    os.kill(first.processes()[1], signal.SIGKILL)
    lost = first.end()
    second = together("--resume", "--out", "run")
    second.after_an_epoch()
    second.process.send_signal(signal.SIGINT)
    interrupted = second.end()
    last = together("--resume", "--out", "run")
    whole = last.end()
    assert last.process.returncode == 0, whole
    run = Run.open(tmp_path_factory.getbasetemp() / "together0" / "run")
    return {"lost": lost, "interrupted": interrupted, "whole": whole, "run": run}


def test_a_lost_process_ends_all_with_one_line(ends: dict[str, Any]) -> None:
    assert own_lines(ends["lost"]) == [
        "cnn-train: another process of this training was lost: continue with cnn-train --resume"
    ]


def test_an_interrupt_is_one_line_that_says_how_to_continue(ends: dict[str, Any]) -> None:
    [line] = own_lines(ends["interrupted"])
    assert line.startswith("cnn-train: interrupted; ")
    assert line.endswith(" of 8 epochs are kept in run/checkpoint.pt: cnn-train --resume --out run")
    assert "KeyboardInterrupt" not in ends["interrupted"]


def test_only_the_main_process_prints_and_writes(ends: dict[str, Any]) -> None:
    lines = ends["whole"].splitlines()
    for start in ("data: ", "model: ", "epoch   8 of 8, 8 x 8: ", "test: ", "wrote "):
        assert len([line for line in lines if line.startswith(start)]) == 1, start
    assert "Warning" not in ends["whole"]
    run = ends["run"]
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 8
    assert not list(run.path.glob(".*"))
    assert (run.path.parent / "second.txt").read_text() == ""


def test_test_figures_count_every_picture_once(ends: dict[str, Any], digits: Dataset) -> None:
    run, truth = ends["run"], digits.test.labels
    found = run.report["test"]
    assert len(truth) % 2 == 1  # what does not divide is not padded
    assert found["images"] == len(truth)
    assert [sum(row) for row in found["confusion"]] == np.bincount(truth).tolist()
    logits = logits_of(run.network(), digits.test.images, run.spec, torch.device("cpu"))  # of one process
    assert found["correct"] == int((logits.argmax(1) == truth).sum())
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth)).item()
    assert found["loss"] == pytest.approx(loss, abs=1e-5)


def test_two_processes_train_as_well_as_one(ends: dict[str, Any], forked: Callable[..., Any], tmp_path: Path) -> None:
    assert forked(tmp_path, *FLAGS, "--out", "run").wait() == 0
    one, two = Run.open(tmp_path / "run"), ends["run"]
    assert (one.report["processes"], two.report["processes"]) == (1, 2)
    assert two.report["threads"] == max(1, usable_cpus() // 2)
    rows = [[json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert [row["lr"] for row in rows[0]] == [row["lr"] for row in rows[1]]  # as many steps
    # the first epochs are close, the last ones good: 5 points are nine of the 179 pictures
    assert rows[1][0]["train_loss"] == pytest.approx(rows[0][0]["train_loss"], rel=0.15)
    assert rows[1][-1]["train_loss"] == pytest.approx(rows[0][-1]["train_loss"], rel=0.25)
    assert one.report["test"]["accuracy"] > 0.9
    assert two.report["test"]["accuracy"] == pytest.approx(one.report["test"]["accuracy"], abs=0.05)
