"""IDX files in the format of MNIST, plain and compressed: train, export, and infer on the test pictures."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_idx_files_are_trained_exported_and_classified(
    tmp_path: Path, run: Callable[..., "subprocess.CompletedProcess[str]"], infer: Callable[..., dict[str, Any]]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    random = np.random.default_rng(0)
    pixels = {}
    for part, count in (("train", 300), ("t10k", 60)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = random.integers(0, 160, (count, 10, 14), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[3 * label : 3 * label + 3] += 60  # a bar at one of three heights
        pixels[part] = images
        (data / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (data / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    (data / "classes.txt").write_text("high bar\nmiddle/bar\nlow bar\n")
    run(tmp_path, "train", data, "--model", "nano", "--epochs", 2, "--out", "run", "--test-pictures", "pictures")
    run(tmp_path, "export", "run")
    found = infer(tmp_path, "pictures", "--model", "run/model.onnx")
    trained = json.loads((tmp_path / "run" / "report.json").read_text())["test"]
    assert list(found["per_class"]) == ["high bar", "middle-bar", "low bar"]
    assert found["confusion"] == trained["confusion"]
    assert (found["labelled"], round(found["accuracy"] * 60, 6)) == (60, trained["correct"])
    third = np.asarray(Image.open(tmp_path / "pictures" / "low bar" / "000002.png"))
    np.testing.assert_array_equal(third, pixels["t10k"][2])
