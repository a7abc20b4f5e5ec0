"""Folders as people have them, through the three commands: other split names, system folders, accents from macOS."""

from __future__ import annotations

import json
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]
CLASSES = {"Bär": 20, "Zebra": 160}
TRAINING = (
    "--model",
    "nano",
    "--epochs",
    8,
    "--batch-size",
    8,
    "--augment",
    "none",
    "--size",
    16,
    "--device",
    "cpu",
    "--precision",
    "fp32",
)


def write(root: Path, form: str, count: int, seed: int) -> None:
    """Pictures whose brightness gives the class, in folders named in a Unicode form."""
    random = np.random.default_rng(seed)
    for name, least in CLASSES.items():
        folder = root / unicodedata.normalize(form, name)  # type: ignore[arg-type]
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = (random.integers(0, 60, (16, 16, 3)) + least).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")


def respelled(source: Path, target: Path, form: str) -> Path:
    """Copy a data set and spell its class folders in a Unicode form."""
    for path in source.glob("*/*/*.png"):
        split, name, file = path.relative_to(source).parts
        place = target / split / unicodedata.normalize(form, name) / file  # type: ignore[arg-type]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target


@pytest.fixture(scope="module", params=["NFC", "NFD"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run: Run) -> tuple[Path, str]:
    """A folder with the data set ``data`` and a run ``run`` on it, and the Unicode form of the training folders."""
    folder = tmp_path_factory.mktemp("folders")
    write(folder / "data" / "Training", request.param, 40, 0)
    write(folder / "data" / "Validation", "NFC", 8, 1)
    write(folder / "data" / "TEST", "NFD", 8, 2)
    (folder / "data" / "__MACOSX").mkdir()
    (folder / "data" / "TEST" / "Zebra" / "notes.txt").write_text("striped")
    write(folder / "data" / "Training" / "@eaDir", "NFC", 3, 3)
    printed = run(folder, "train", "data", *TRAINING, "--out", "run").stderr
    assert "  train: Bär 40, Zebra 40\n  val: Bär 8, Zebra 8\n  test: Bär 8, Zebra 8\n" in printed
    assert "  left out: 1 file of other kinds (.txt 1) in the class folders of " in printed
    return folder, request.param


def test_accuracy_does_not_depend_on_the_unicode_form(
    trained: tuple[Path, str], run: Run, infer: Callable[..., dict[str, Any]]
) -> None:
    folder, form = trained
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["test"]["accuracy"] == 1
    assert json.loads((folder / "run" / "spec.json").read_text())["classes"] == ["Bär", "Zebra"]
    assert any("left out: 1 file of other kinds (.txt 1)" in note for note in report["notes"])
    for other in ("NFC", "NFD"):
        place = respelled(folder / "data", folder / f"copy from {form} in {other}", other)
        run(folder, "export", "run", "--data", place)
        found = infer(folder, place / "TEST", "--model", "run/model.onnx")
        assert (found["labelled"], found["accuracy"], found["unknown_folders"]) == (16, 1, {})


def test_a_copied_test_split_and_a_second_label_are_reported(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "data" / "train", "NFC", 12, 0)
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "test")
    shutil.copyfile(tmp_path / "data" / "train" / "Bär" / "00.png", tmp_path / "data" / "train" / "Zebra" / "x.png")
    short = ("--model", "nano", "--epochs", 1, "--size", 16, "--device", "cpu")
    run(tmp_path, "train", "data", *short, "--out", "run")
    warnings = " ".join(json.loads((tmp_path / "run" / "report.json").read_text())["warnings"])
    assert "of 24 test pictures are in the train split too" in warnings
    assert "1 picture has more than one label" in warnings


def test_a_folder_without_pictures_says_what_it_has(
    trained: tuple[Path, str], tmp_path: Path, run: Run, infer: Callable[..., dict[str, Any]]
) -> None:
    folder, _ = trained
    for number in range(12):
        (tmp_path / f"{number}.txt").touch()
    run(folder, "export", "run")
    refused = run(folder, "infer", tmp_path, "--model", "run/model.onnx", code=2).stderr
    assert "left out: 12 files of other kinds (.txt 12)" in refused
    write(tmp_path / "lake", "NFC", 1, 0)
    for path in (tmp_path / "lake").iterdir():
        path.rename(path.with_name(f"not a {path.name}"))
    found = infer(folder, tmp_path, "--model", "run/model.onnx")
    assert (found["accuracy"], found["skipped"]) == (None, {".txt": 12})
    assert found["unknown_folders"] == {"not a Bär": 1, "not a Zebra": 1}
