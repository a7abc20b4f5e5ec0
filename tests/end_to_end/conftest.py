"""The three commands as processes, a folder of photographs, and one run of all three commands for several tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = {"lake": (40, 80, 190), "meadow": (60, 170, 60), "sunset": (220, 110, 40)}
EXIF_ORIENTATION = 0x0112

HANGS_AFTER = 900
"""Seconds after which a command counts as hanging. No test measures speed."""


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables for the commands: one thread, an empty home folder, no settings of this user."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "TORCH_", "PYTHONPATH"))}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str], fork: Callable[..., Any]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command in a folder: ``run(folder, "train", "--epochs", 1)`` runs ``cnn-train --epochs 1`` in it.

    The test fails if the exit code is not ``code``. With ``installed``, cnn-train and cnn-export are the installed
    scripts; without it, they run in a fork of a process that has imported PyTorch, which saves seconds.
    """

    def call(
        folder: Path, name: str, *arguments: object, code: int = 0, installed: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).with_name(f"cnn-{name}")), *map(str, arguments)]
        if installed or name == "infer":
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGS_AFTER, check=False
            )
        else:
            process = fork(folder, name, *arguments, environment=environment)
            returned = process.wait()
            done = subprocess.CompletedProcess(command, returned, process.stdout.read_text(), process.said())
        assert done.returncode == code, f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def infer(run: Callable[..., "subprocess.CompletedProcess[str]"]) -> Callable[..., dict[str, Any]]:
    """Run cnn-infer in a folder, with rows in the file ``rows``, and return its report."""

    def call(folder: Path, *arguments: object) -> dict[str, Any]:
        run(folder, "infer", *arguments, "--report", "report-of-infer.json", "--output", "rows", "--format", "jsonl")
        document: dict[str, Any] = json.loads((folder / "report-of-infer.json").read_text())
        return document

    return call


def picture(random: np.random.Generator, name: str) -> Image.Image:
    """A picture of random size, so noisy that a network is often wrong after one epoch of training."""
    width, height = (int(side) for side in random.integers(24, 90, 2))
    coarse = random.integers(0, 110, (5, 6, 3))
    pixels = np.clip(np.array(CLASSES[name]) * 0.6 + coarse, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with JPEG files: every fifth is grey, every third is rotated by its EXIF data, one is broken."""
    folder = tmp_path_factory.mktemp("photos") / "holiday pictures"
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 16)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = picture(random, name)
                exif = Image.Exif()
                if number % 3 == 0:
                    exif[EXIF_ORIENTATION] = int(random.integers(2, 9))
                image = image.convert("L") if number % 5 == 0 else image
                image.save(folder / split / name / f"{number:02}.jpg", quality=85, exif=exif)
    whole = (folder / "train" / "lake" / "01.jpg").read_bytes()
    (folder / "train" / "lake" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, run: Callable[..., "subprocess.CompletedProcess[str]"]) -> Path:
    """A folder in which the three commands ran with default settings.

    Another training writes the pictures of the test split; it is the same split because the seed is the same.
    """
    folder = tmp_path_factory.mktemp("chain")
    run(folder, "train", installed=True)
    run(folder, "export", "--quantize", installed=True)
    other = tmp_path_factory.mktemp("other")
    run(other, "train", "--model", "nano", "--epochs", 1, "--test-pictures", folder / "pictures")
    run(folder, "infer", "pictures/", "--output", "rows.txt")
    return folder
