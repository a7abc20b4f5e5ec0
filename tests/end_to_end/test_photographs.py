"""JPEG photographs of any size, grey and colour, some rotated by EXIF data, one broken, through all three commands."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Infer = Callable[..., dict[str, Any]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
OPTIONS = ("--size", 32, "--epochs", 1, "--batch-size", 16)


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory, run: Command) -> tuple[Path, str]:
    """The folder of a training and an export, and the messages of the training."""
    folder = tmp_path_factory.mktemp("photographs")
    done = run(folder, "train", photos, "--model", "nano", *OPTIONS, "--out", "run")
    run(folder, "export", "run")
    return folder, done.stderr


def correct(folder: Path, name: str = "run") -> tuple[int, list[list[int]]]:
    test = json.loads((folder / name / "report.json").read_text())["test"]
    return test["correct"], test["confusion"]


def test_accuracy_on_the_original_files_equals_that_of_training(
    trained: tuple[Path, str], photos: Path, infer: Infer
) -> None:
    folder, _ = trained
    found = infer(folder, photos / "test", "--model", "run/model.onnx")
    right, confusion = correct(folder)
    assert (found["images"], found["errors"], found["labelled"]) == (48, 0, 48)
    assert found["confusion"] == confusion
    assert round(found["accuracy"] * 48, 6) == right
    assert 0 < right < 48


def test_the_specification_stores_how_pixels_are_made(trained: tuple[Path, str]) -> None:
    spec = json.loads((trained[0] / "run" / "spec.json").read_text())
    assert (spec["height"], spec["width"], spec["colour"], spec["resize"]) == (32, 32, "rgb", "crop")
    assert spec["classes"] == ["lake", "meadow", "sunset"]


def test_a_broken_file_is_reported_and_left_out(trained: tuple[Path, str], photos: Path) -> None:
    folder, messages = trained
    [entry] = json.loads((folder / "run" / "report.json").read_text())["unreadable"]
    assert entry["path"] == str(photos / "train" / "lake" / "broken.jpg")
    assert entry["reason"]
    assert "1 picture could not be read and will be left out:" in messages
    assert f"{entry['path']}: {entry['reason']}" in messages
    images = json.loads((folder / "run" / "spec.json").read_text())["details"]["data"]["images"]
    assert images == {"train": 108, "val": 12, "test": 48}


def test_strict_refuses_a_broken_file(photos: Path, tmp_path: Path, run: Command) -> None:
    done = run(tmp_path, "train", photos, "--model", "nano", *OPTIONS, "--strict", "--out", "run", code=2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("cnn-train: 1 unreadable picture, and --strict is set: ")
    assert "broken.jpg" in last
    assert not (tmp_path / "run").exists()


def test_exif_rotation_is_applied(trained: tuple[Path, str], photos: Path, tmp_path: Path, infer: Infer) -> None:
    """Pictures that were rotated upright and saved without loss give the same rows as the originals."""
    folder, _ = trained
    turned = [
        path for path in sorted((photos / "test").rglob("*.jpg")) if Image.open(path).getexif().get(0x0112, 1) > 1
    ]
    assert len(turned) == 18
    for path in turned:
        target = tmp_path / "upright" / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            pixels = np.asarray(image)
            code = image.getexif()[0x0112]
        if code in (5, 6, 7, 8):
            pixels = pixels.swapaxes(0, 1)
        if code in (2, 3, 6, 7):
            pixels = pixels[:, ::-1]
        if code in (3, 4, 7, 8):
            pixels = pixels[::-1]
        Image.fromarray(np.ascontiguousarray(pixels)).save(target)
    infer(tmp_path, tmp_path / "upright", "--model", folder / "run" / "model.onnx")
    upright = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    infer(tmp_path, *turned, "--model", folder / "run" / "model.onnx")
    originals = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert len(originals) == len(upright) == 18
    for first, second in zip(originals, upright, strict=True):
        assert first["probability"] == pytest.approx(second["probability"], abs=1e-4)


def test_moved_data_is_found_with_data_and_other_data_is_refused(
    trained: tuple[Path, str], photos: Path, tmp_path: Path, run: Command
) -> None:
    folder, _ = trained
    run_copy = tmp_path / "run"
    run_copy.mkdir()
    for path in (folder / "run").iterdir():
        (run_copy / path.name).write_bytes(path.read_bytes())
    moved = tmp_path / "moved"
    for path in photos.rglob("*.jpg"):
        target = moved / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run(tmp_path, "export", "run", "--data", "moved")
    before = (run_copy / "model.onnx").read_bytes()
    Image.new("RGB", (40, 40)).save(moved / "test" / "lake" / "00.jpg")
    done = run(tmp_path, "export", "run", "--data", "moved", code=2)
    assert done.stderr.splitlines()[-1].startswith("cnn-export: the test pictures in ")
    assert (run_copy / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_torchvision_models_are_trained_and_exported_with_parity(
    name: str, photos: Path, tmp_path: Path, run: Command, infer: Infer
) -> None:
    run(tmp_path, "train", photos, "--model", name, *OPTIONS, "--out", "run")
    run(tmp_path, "export", "run")
    parity = json.loads((tmp_path / "run" / "export.json").read_text())["parity"]
    assert parity["passed"]
    assert parity["images"] == 48
    found = infer(tmp_path, photos / "test", "--model", "run/model.onnx")
    assert found["confusion"] == correct(tmp_path)[1]
