"""train() as a function prints nothing and reports through logging; the command prints the same messages."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_forked(fork: Callable[..., Any], environment: dict[str, str], tmp_path: Path) -> Run:
    """Run cnn-train or ``code`` in a process of its own; return exit code, standard output and standard error."""

    def run(*arguments: str, code: str = "") -> tuple[int, str, str]:
        process = fork(tmp_path, "train", *arguments, environment=environment, code=code)
        return process.wait(), process.stdout.read_text(), process.said()

    return run


TRAIN = 'from cnn_train import train; train("digits", model="nano", epochs=1, size=16, out="run", overwrite=True'
TRAIN += ', test_pictures="test", device="cpu", precision="fp32")'
COMMAND = ("digits", "--model", "nano", "--epochs", "1", "--size", "16", "--out", "run", "--overwrite")
COMMAND += ("--test-pictures", "test", "--device", "cpu", "--precision", "fp32")


LOG_TO_STDOUT = """
import logging, sys
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
logger = logging.getLogger("cnn_train")
logger.addHandler(handler)
logger.setLevel("INFO")
"""


def test_a_call_prints_nothing_not_even_its_warnings(environment: dict[str, str], tmp_path: Path) -> None:
    """In a fresh process, where imports could print as well."""
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert '"warnings": [\n' in (tmp_path / "run" / "report.json").read_text()


def without_times(lines: list[str]) -> list[str]:
    return [line.rpartition(", ")[0] if line.startswith("epoch ") else line for line in lines]


def test_messages_arrive_through_logging_and_are_those_that_the_command_prints(
    run_forked: Run,
) -> None:
    code, stdout, stderr = run_forked(code=f"{LOG_TO_STDOUT}\n{TRAIN}")
    assert (code, stderr) == (0, "")
    logged = [line.removeprefix("INFO ").replace("WARNING ", "warning: ") for line in stdout.splitlines()]
    code, stdout, stderr = run_forked(*COMMAND)
    assert (code, stdout) == (0, "")
    printed = without_times(stderr.splitlines())
    assert printed == without_times(logged)
    beginnings = ("data: digits", "wrote 179 test pictures", "model: nano", "epoch   1 of 1", "kept: epoch 1 of 1")
    beginnings += ("warning: 179 test pictures are few", "test: accuracy", "wrote run/", "next: cnn-export")
    lines = [line for line in printed if not line.startswith("  ")]  # notes on the data
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("what", ['"digits", model="resnet18", pretrained=True', '"mnist"'])
def test_downloads_of_libraries_print_nothing(run_forked: Run, what: str) -> None:
    code = f"import cnn_train\ntry: cnn_train.train({what})\nexcept cnn_train.TrainError: raise SystemExit(3)"
    assert run_forked(code=code) == (3, "", "")


def test_the_command_shows_downloads_on_standard_error(run_forked: Run) -> None:
    code, stdout, stderr = run_forked("digits", "--model", "resnet18", "--pretrained")
    assert (code, stdout) == (2, "")
    assert "\nDownloading: " in stderr
    assert stderr.splitlines()[-1].startswith("cnn-train: torchvision's weights of resnet18 cannot be fetched")
