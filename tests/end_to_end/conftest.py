"""The three commands as processes, a folder of photographs, and one chain of all three that several tests look at."""

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


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One thread, an empty home folder, nothing of this user's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "TORCH_", "PYTHONPATH"))}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a command in a folder: ``run(folder, "train", "--epochs", 1)`` is ``cnn-train --epochs 1`` there."""

    def call(folder: Path, name: str, *arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [str(Path(sys.executable).with_name(f"cnn-{name}")), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=170, check=False
        )
        assert done.returncode == code, f"{command} left with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def infer(run: Callable[..., "subprocess.CompletedProcess[str]"]) -> Callable[..., dict[str, Any]]:
    """cnn-infer in a folder, and its report."""

    def call(folder: Path, *arguments: object) -> dict[str, Any]:
        run(folder, "infer", *arguments, "--report", "report-of-infer.json", "--output", "rows", "--format", "jsonl")
        document: dict[str, Any] = json.loads((folder / "report-of-infer.json").read_text())
        return document

    return call


def picture(random: np.random.Generator, name: str) -> Image.Image:
    """Of any size and shape, and so noisy that a network of one epoch is often wrong."""
    width, height = (int(side) for side in random.integers(24, 90, 2))
    coarse = random.integers(0, 110, (5, 6, 3))
    pixels = np.clip(np.array(CLASSES[name]) * 0.6 + coarse, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with JPEG files: every fifth is grey, every third is turned by its EXIF data; one is broken."""
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

    The pictures are of another training's test split: with one seed it is the same.
    """
    folder = tmp_path_factory.mktemp("chain")
    run(folder, "train")
    run(folder, "export", "--quantize")
    other = tmp_path_factory.mktemp("other")
    run(other, "train", "--model", "nano", "--epochs", 1, "--test-pictures", folder / "pictures")
    run(folder, "infer", "pictures/", "--output", "rows.txt")
    return folder
