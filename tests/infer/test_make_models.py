"""The committed models are those that make_models.py writes."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_models", Path(__file__).with_name("make_models.py"))
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def comparable(data: bytes) -> tuple[bytes, list[Any]]:
    """The model without its golden pictures, and those decoded: their PNG bytes depend on the build of zlib."""
    model = onnx.ModelProto.FromString(data)
    golden = [entry for entry in model.metadata_props if entry.key == "cnn.golden"]
    decoded = [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(item["png"])))).tolist(), item["probabilities"])
        for entry in golden
        for item in json.loads(entry.value)
    ]
    for entry in golden:
        model.metadata_props.remove(entry)
    return model.SerializeToString(deterministic=True), decoded


def test_regenerating_gives_the_same_bytes(script: ModuleType, models: Path, tmp_path: Path) -> None:
    script.main(tmp_path)
    names = sorted(path.name for path in models.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        made, committed = (comparable((folder / name).read_bytes()) for folder in (tmp_path, models))
        assert made == committed, name


def test_the_valid_models_pass_the_checker(models: Path) -> None:
    for name in ("grey.onnx", "rgb.onnx"):
        model = onnx.load(models / name)
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 9
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
