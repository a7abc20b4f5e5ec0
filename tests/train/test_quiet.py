"""train() as a function prints nothing and reports through logging; the command prints the same messages."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def python(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run code in a fresh process, in ``tmp_path``."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

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


def test_a_call_prints_nothing_not_even_its_warnings(python: Run, tmp_path: Path) -> None:
    done = python(TRAIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert '"warnings": [\n' in (tmp_path / "run" / "report.json").read_text()


def without_times(lines: list[str]) -> list[str]:
    return [line.rpartition(", ")[0] if line.startswith("epoch ") else line for line in lines]


def test_messages_arrive_through_logging_and_are_those_that_the_command_prints(
    python: Run, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    done = python(f"{LOG_TO_STDOUT}\n{TRAIN}")
    assert (done.returncode, done.stderr) == (0, "")
    logged = [line.removeprefix("INFO ").replace("WARNING ", "warning: ") for line in done.stdout.splitlines()]
    process = start(*COMMAND)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (0, "")
    printed = without_times(stderr.splitlines())
    assert printed == without_times(logged)
    beginnings = ("data: digits", "wrote 179 test pictures", "model: nano", "epoch   1 of 1", "kept: epoch 1 of 1")
    beginnings += ("warning: 179 test pictures are few", "test: accuracy", "wrote run/", "next: cnn-export")
    lines = [line for line in printed if not line.startswith("  ")]  # notes on the data
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)


@pytest.mark.parametrize("what", ['"digits", model="resnet18", pretrained=True', '"mnist"'])
def test_downloads_of_libraries_print_nothing(python: Run, what: str) -> None:
    done = python(f"import cnn_train\ntry: cnn_train.train({what})\nexcept cnn_train.TrainError: raise SystemExit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_the_command_shows_downloads_on_standard_error(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    process = start("digits", "--model", "resnet18", "--pretrained")
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (2, "")
    assert "\nDownloading: " in stderr
    assert stderr.splitlines()[-1].startswith("cnn-train: torchvision's weights of resnet18 cannot be fetched")
