"""``--threads auto`` measures, chooses the fastest, prints the choice, and changes no row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier
from cnn_infer.command.tuning import MIN_PICTURES, plan
from cnn_infer.system import machine

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def many(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """More pictures than a measurement needs, some of them unreadable."""
    first = picture(tmp_path / "in" / "0.png", "red")
    for number in range(1, MIN_PICTURES + 50):
        if number % 60 == 7:
            first.with_name(f"{number}.png").write_bytes(b"no picture")
        else:
            os.link(first, first.with_name(f"{number}.png"))
    return first.parent


class Waiting(Classifier):
    """A picture takes 1 ms; with ``contended`` it takes much longer when several threads work at once."""

    contended = False
    batch_costs: Callable[[int], float] = staticmethod(lambda size: 1e-5 * size)
    busy = 0
    lock = threading.Lock()

    def pixels(self, picture: object) -> np.ndarray:
        if isinstance(picture, np.ndarray):
            return picture
        with self.lock:
            self.busy += 1
            wait = self.busy**5 if self.contended else 1
        time.sleep(1e-3 * wait)
        with self.lock:
            self.busy -= 1
        return np.zeros(self.spec.shape, np.uint8)

    def _run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        time.sleep(self.batch_costs(len(batch)))
        return super()._run(batch)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2)


@pytest.mark.parametrize(("contended", "threads"), [(False, 2), (True, 1)])
def test_the_largest_number_of_threads_that_is_fastest(
    two_processors: None, rgb: Classifier, contended: bool, threads: int
) -> None:
    classifier = Waiting(rgb.model)
    classifier.contended = contended
    found = plan(classifier, ["a.png"] * MIN_PICTURES)
    assert found.threads == threads
    assert "threads 2, 1: " in found.why


@pytest.mark.parametrize(
    ("costs", "least", "most"),
    [(lambda size: 1e-3 * size**2, 1, 1), (lambda size: 1e-3, 16, 256), (lambda size: 0.1 * size, 1, 1)],
    ids=["one is best", "many are best", "slow"],
)
def test_the_smallest_batch_size_that_is_fastest(
    two_processors: None, rgb: Classifier, costs: Callable[[int], float], least: int, most: int
) -> None:
    classifier = Waiting(rgb.model)
    classifier.batch_costs = costs
    found = plan(classifier, ["a.png"] * MIN_PICTURES)
    assert least <= found.batch_size <= most
    assert found.why.startswith("measured in ")
    assert "batch size 1" in found.why
    fixed = plan(classifier, ["a.png"] * MIN_PICTURES, batch_size=7)
    assert fixed.batch_size == 7
    assert "batch size" not in fixed.why


def test_few_pictures_are_not_measured(rgb: Classifier) -> None:
    found = plan(rgb, ["absent.png"] * (MIN_PICTURES - 1))
    assert (found.threads, found.batch_size) == (machine.usable_cpus(), 32)
    assert found.why == f"not measured: fewer than {MIN_PICTURES} pictures"


def test_rows_equal_those_of_one_thread_and_the_choice_is_printed(
    tmp_path: Path, many: Path, models: Path, cli: Run
) -> None:
    arguments = ("in", "--model", models / "rgb.onnx", "--format", "csv")
    alone = cli(*arguments, "--threads", "1", "--batch-size", "1").stdout
    done = cli(*arguments, "--threads", "auto", "--report", "r.json")
    assert done.stdout == alone
    report = json.loads((tmp_path / "r.json").read_text())
    cpus = machine.usable_cpus()
    line = next(line for line in done.stderr.decode().splitlines() if line.startswith("threads: "))
    assert line == (
        f"threads: {report['threads']} on {cpus} {'processor' if cpus == 1 else 'processors'}, one session, "
        f"batch size {report['batch_size']} ({report['tuned']})"
    )
    assert report["tuned"].startswith("measured in 0.")
    cli(*arguments, "--report", "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["tuned"] is None


def test_a_run_is_resumed_with_another_choice(
    tmp_path: Path, many: Path, models: Path, environment: dict[str, str], cli: Run
) -> None:
    arguments = ("in", "--model", models / "rgb.onnx", "--format", "csv", "--output", "rows.csv")
    cli(*arguments, "--threads", "1", "--batch-size", "5")
    wanted = (tmp_path / "rows.csv").read_bytes()
    (tmp_path / "rows.csv").unlink()
    command = [sys.executable, "-m", "cnn_infer", *map(str, arguments), "--threads", "1", "--batch-size", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not (tmp_path / "rows.csv.manifest.json").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    cli(*arguments, "--resume", "--threads", "auto")
    assert (tmp_path / "rows.csv").read_bytes() == wanted


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_one_processor_is_one_thread(tmp_path: Path, many: Path, models: Path, environment: dict[str, str]) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", cpu, sys.executable, "-m", "cnn_infer", "in", "--model", str(models / "rgb.onnx")]
    done = subprocess.run(
        [*command, "--threads", "auto"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "threads: 1 on 1 processor, " in done.stderr
    assert " on 1 thread; " in done.stderr
