"""benchmarks/providers.py judges a file by the precision in its specification, not by its name."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("model", "precision", "fails"),
    [
        ("int8-tried/model.onnx", "fp32", True),
        ("run/model.half.onnx", "fp16", False),
        ("run/model.int8.rejected.onnx", "int8", False),
    ],
    ids=["fp32", "fp16", "int8"],
)
def test_another_class_fails_in_fp32_only(
    model: str, precision: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    failed = import_module("providers").failed
    row = {"model": model, "precision": precision, "openvino": {"other_classes": 1}}
    assert failed(row) is fails
    assert not failed({**row, "openvino": {"other_classes": 0}})


def test_the_precision_is_that_of_the_specification(tmp_path: Path) -> None:
    model = shutil.copy(ROOT / "tests" / "infer" / "models" / "rgb.onnx", tmp_path / "model.int8.onnx")
    np.save(tmp_path / "pictures.npy", np.zeros((2, 8, 8, 3), np.uint8))
    script = ROOT / "benchmarks" / "run_on_device.py"
    command = [sys.executable, script, model, "cpu", "{}", tmp_path / "pictures.npy", tmp_path / "found.npy"]
    done = subprocess.run(list(map(str, command)), input="", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["precision"] == "fp32"
    assert len(np.load(tmp_path / "found.npy")) == 2
