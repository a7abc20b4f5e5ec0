"""A labels file with groups, and an input that is not square, through the three commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]
COLOURS = {"blue": (30, 40, 200), "red": (200, 40, 30)}
HEIGHT, WIDTH = 12, 20


def write_pictures(root: Path) -> None:
    """Ten patients with four pictures of each class, in a table with other names of columns."""
    random = np.random.default_rng(0)
    rows = ["image;finding;group"]
    (root / "scans").mkdir(parents=True)
    for patient in range(10):
        for number, (name, colour) in enumerate([*COLOURS.items()] * 4):
            pixels = np.clip(np.array(colour) + random.integers(-30, 30, (18, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "scans" / f"p{patient}-{number}.png")
            rows.append(f"scans/p{patient}-{number};{name};p{patient}")
    (root / "labels.csv").write_text("\r\n".join(rows), encoding="utf-16")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A folder with an exported run ``run`` and its data set, which was ``data`` in training and is ``moved`` since."""
    folder = tmp_path_factory.mktemp("labels")
    write_pictures(folder / "data")
    options = ("--model", "nano", "--epochs", 8, "--batch-size", 8, "--device", "cpu", "--precision", "fp32")
    columns = ("--columns", "image", "finding")
    printed = run(
        folder, "train", "data/labels.csv", *columns, "--size", f"{HEIGHT}x{WIDTH}", *options, "--out", "run"
    ).stderr
    assert "2 classes, 20 x 12 colour: train 64, val 8, test 8" in printed
    assert "no test split: 8 of 80 training pictures (1 of 10 groups) were set aside (seed 0)" in printed
    assert "completed: 80 names without an extension (scans/p0-0 to scans/p0-0.png)" in printed
    (folder / "data").rename(folder / "moved")
    run(folder, "export", "run", "--data", "moved/labels.csv")
    return folder


def test_a_size_that_is_not_square_reaches_every_part(
    trained: Path, run: Run, infer: Callable[..., dict[str, Any]]
) -> None:
    spec = json.loads((trained / "run" / "spec.json").read_text())
    assert (spec["height"], spec["width"]) == (HEIGHT, WIDTH)
    model = ("--model", "run/model.onnx")
    shown = run(trained, "infer", "--info", "--verify", *model, "--certificate", "box.json")
    assert "20 x 12 pixels (width x height)" in shown.stdout
    assert json.loads((trained / "box.json").read_text())
    truth = ("--truth", "moved/labels.csv", "--columns", "image", "finding")
    report = infer(trained, "moved", *model, *truth)
    assert (report["labelled"], report["accuracy"]) == (80, 1)
    assert report["truth"]["without_picture"] == 0
    with Image.open(trained / "run" / "samples.png") as samples:
        assert samples.width > samples.height
