"""Fixtures of the training tests: the digits, a finished run, a folder of pictures, and the command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_train import Dataset, Run, open_source, prepare, train
from cnn_train.cli import main
from PIL import Image

COMMAND = (sys.executable, "-m", "cnn_train")


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return prepare(open_source("digits"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of nano on the digits. Tests must not change it."""
    return train("digits", model="nano", epochs=3, out=tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Path:
    """A copy of the finished run's folder that a test may change."""
    return Path(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 12 JPEG files, 20 x 16."""
    random = np.random.default_rng(0)
    for name, colour in (("blue", (30, 40, 200)), ("green", (40, 180, 50)), ("red", (200, 40, 30))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(np.array(colour) + random.integers(-40, 40, (16, 20, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables for a process with one thread, its own home folder, and no network."""
    (tmp_path / "home").mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "TORCH_"))}
    return {**kept, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "https_proxy": "http://127.0.0.1:9"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start cnn-train as a separate process, in ``tmp_path``."""

    def begin(*arguments: str, **settings: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )

    return begin


@pytest.fixture(scope="session")
def forked(fork: Callable[..., Any]) -> Callable[..., Any]:
    """Start cnn-train in a folder without delay, as a process of its own."""

    def begin(folder: Path, *arguments: str) -> Any:
        return fork(folder, "train", *arguments)

    return begin


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Call the command's entry point in this process. Returns the exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cnn-train", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        code = left.value.code
        return (code if isinstance(code, int) else 0), capsys.readouterr().err

    return call


@pytest.fixture
def refused(command: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """Run a command that must fail with exit code 2 and one line of error. Returns that line."""

    def call(*arguments: str) -> str:
        code, text = command(*arguments)
        *before, last = text.splitlines()
        assert code == 2, text
        assert last.startswith("cnn-train: "), text
        assert not any("Traceback" in line or line.startswith("cnn-train: ") for line in before), text
        return last

    return call
