"""Scripts that take a run and its data set refuse other pictures than those of the run, in one line."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNTS = {"train": 10, "val": 4, "test": 4}


def draw(folder: Path, split: str, shade: int) -> None:
    """Pictures of two classes, in a shade of blue and of red."""
    for label, colour in (("blue", (30, shade, 200)), ("red", (200, shade, 30))):
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        for number in range(COUNTS[split]):
            picture = Image.new("RGB", (16, 16), tuple(part + number for part in colour))
            picture.save(folder / split / label / f"{number}.png")


@pytest.fixture(scope="module")
def run(fork: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported run, beside its data set ``data``."""
    root = tmp_path_factory.mktemp("pictures")
    for split in COUNTS:
        draw(root / "data", split, 40)
    small = ("--model", "nano", "--size", 16, "--epochs", 1, "--device", "cpu")
    assert fork(root, "train", "data", *small, "--out", "run").wait() == 0
    assert fork(root, "export", "run", "--evidence").wait() == 0
    return root / "run"


def printed(script: str, pair: str, code: int) -> str:
    command = [sys.executable, str(BENCHMARKS / script), pair]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize(
    ("script", "model"), [("drift.py", ""), ("evidence.py", "/model.onnx"), ("guarantee.py", "")], ids=lambda name: name
)
def test_other_test_pictures_are_refused(run: Path, tmp_path: Path, script: str, model: str) -> None:
    other = shutil.copytree(run.parent / "data", tmp_path / "other")
    draw(other, "test", 41)
    assert printed(script, f"{run}{model}={other}", code=2).splitlines() == [
        f"{script}: the test pictures in {other} are not those of the run: pass its data set as data (--data)"
    ]


def test_a_guarantee_on_other_validation_pictures_is_refused(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run.parent / "data", tmp_path / "other")
    draw(other, "val", 41)
    said = printed("guarantee.py", f"{run}={other}", code=1).splitlines()
    assert said[-1] == f"guarantee.py: a guarantee needs the validation pictures of {run}: name its data set"


def test_the_pictures_of_the_run_are_measured_wherever_they_are(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run.parent / "data", tmp_path / "moved")
    assert printed("drift.py", f"{run}={moved}", code=0).startswith("run/model.onnx: test split D ")
    assert "1 cell of 16 covered" in printed("evidence.py", f"{run}/model.onnx={moved}", code=0)
