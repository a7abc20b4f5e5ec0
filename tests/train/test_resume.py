"""A training that was cut off goes on to the same weights, bit for bit, or says in one line why it cannot."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_train import RunError, train
from PIL import Image

FLAGS = (
    "--model",
    "nano",
    "--epochs",
    "30",
    "--batch-size",
    "64",
    "--augment",
    "crop",
    "--dropout",
    "0.1",
    "--balance",
)
TIMES = ("images_per_second", "seconds")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


def begin(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_train", *arguments],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(process: subprocess.Popen[str], number: int) -> str:
    """Send a signal as soon as an epoch is reported; what the process said after it."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch "):
            break
    process.send_signal(number)
    rest = process.stderr.read()
    process.wait(60)
    return rest


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    assert begin(place, "digits", *FLAGS, "--out", "whole").wait(120) == 0
    return place / "whole"


@pytest.fixture(scope="module")
def interrupted(place: Path) -> tuple[int, list[str]]:
    process = begin(place, "digits", *FLAGS, "--out", "runs/cut")
    said = stopped(process, signal.SIGINT)
    return process.returncode, said.splitlines()


def test_an_interrupt_leaves_with_130_and_says_how_to_go_on(place: Path, interrupted: tuple[int, list[str]]) -> None:
    code, lines = interrupted
    assert code == 130
    *epochs, last = lines
    assert all(line.startswith("epoch ") for line in epochs)
    assert last.startswith("cnn-train: interrupted; ")
    assert last.endswith("of 30 epochs are kept in runs/cut/checkpoint.pt: cnn-train --resume --out runs/cut")
    assert not (place / "runs" / "cut" / "report.json").exists()


def test_after_an_interrupt_and_a_kill_the_weights_are_those_of_one_training(
    place: Path, whole: Path, interrupted: tuple[int, list[str]]
) -> None:
    cut = place / "runs" / "cut"
    killed = begin(place, "--resume")  # finds the newest unfinished one
    stopped(killed, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    before = len((cut / "metrics.jsonl").read_text().splitlines())
    assert 2 <= before < 30
    assert begin(place, "--resume", "--out", "runs/cut").wait(120) == 0
    for name in ("model.safetensors", "config.toml"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("report.json", "spec.json"):
        first, second = (json.loads((folder / name).read_text()) for folder in (cut, whole))
        ignored = ("seconds", "session_seconds", "seconds_with_preparation")
        assert {k: v for k, v in first.items() if k not in ignored} == {
            k: v for k, v in second.items() if k not in ignored
        }
    reports = [json.loads((folder / "report.json").read_text()) for folder in (cut, whole)]
    assert reports[0]["seconds_with_preparation"] is None  # nobody knows how long the machine was off
    assert reports[1]["seconds_with_preparation"] > reports[1]["seconds"]
    lines = [
        [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in text.splitlines()]
        for text in ((folder / "metrics.jsonl").read_text() for folder in (cut, whole))
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 30


# what cannot go on


def test_options_that_make_the_weights_are_refused(cut: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    text = refused("--resume", "--out", str(cut), "--dropout", "0.5", "--epochs", "9", "--strict")
    assert "leave out dropout, epochs, strict" in text
    (tmp_path / "mine.toml").write_text("epochs = 9\n")
    assert "leave out --config" in refused("--resume", "--out", str(cut), "--config", str(tmp_path / "mine.toml"))


@pytest.fixture
def cut(run: Path) -> Path:
    """A run folder whose last epoch is done and whose report is not."""
    (run / "report.json").unlink()
    return run


def test_a_finished_training_is_not_resumed(run: Path, refused: Callable[..., str]) -> None:
    assert "is finished: nothing to resume" in refused("--resume", "--out", str(run))


def damaged(run: Path, how: str) -> None:
    file = run / "checkpoint.pt"
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "empty": b"",
            "text": b"not a checkpoint",
            "cut short": content[:middle],
            "overwritten": content[:2000] + bytes(2000) + content[4000:],
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "text", "cut short", "overwritten"])
def test_a_damaged_checkpoint_is_refused(cut: Path, refused: Callable[..., str], how: str) -> None:
    damaged(cut, how)
    assert "checkpoint.pt is damaged: train anew with --overwrite" in refused("--resume", "--out", str(cut))


def test_a_checkpoint_of_another_network_is_refused(cut: Path, refused: Callable[..., str]) -> None:
    config = cut / "config.toml"
    config.write_text(config.read_text().replace('model = "nano"', 'model = "small"'))
    assert "is not of the training in" in refused("--resume", "--out", str(cut))


def test_without_its_configuration_a_training_does_not_go_on(cut: Path, refused: Callable[..., str]) -> None:
    (cut / "config.toml").unlink()
    assert "cannot read" in refused("--resume", "--out", str(cut))


def test_nothing_to_resume(run: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no unfinished training under runs/" in refused("--resume")
    assert "no such run folder: none" in refused("--resume", "--out", "none")
    (tmp_path / "empty").mkdir()
    assert "nothing to resume in empty: checkpoint.pt" in refused("--resume", "--out", "empty")
    shutil.copytree(run, tmp_path / "runs" / "finished")
    assert "no unfinished training under runs/" in refused("--resume")


def test_changed_data_is_refused_and_moved_data_is_not(photos: Path, tmp_path: Path) -> None:
    options = {"model": "nano", "epochs": 1, "size": 16, "cache": str(tmp_path / "cache")}
    run = train(photos, out=tmp_path / "run", **options)
    before = run.report["test"]
    moved = photos.rename(tmp_path / "elsewhere")
    (run.path / "report.json").unlink()
    assert train(moved, out=run.path, resume=True).report["test"] == before
    (run.path / "report.json").unlink()
    Image.new("RGB", (20, 16), (1, 2, 3)).save(moved / "red" / "0.jpg")
    with pytest.raises(RunError, match=r"the data is not what the training in .* began with"):
        train(moved, out=run.path, resume=True)
