"""verify: the golden pictures give the same probabilities on this machine as at export, within a tolerance."""

from __future__ import annotations

import base64
import io
import json
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, ModelError, verify
from cnn_infer.proof.golden import MAX_BYTES, pack
from PIL import Image

Edit = Callable[[str, str, str], bytes]
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def golden(classifier: Classifier) -> list[dict[str, Any]]:
    return json.loads(classifier.model.metadata["cnn.golden"])


def shifted(classifier: Classifier, by: float) -> str:
    """The golden pictures; in the first, the most and the least probable class are moved towards each other."""
    entries = golden(classifier)
    row = np.array(entries[0]["probabilities"])
    row[row.argmax()] -= by
    row[row.argmin()] += by
    return json.dumps([{**entries[0], "probabilities": row.tolist()}, *entries[1:]])


def test_golden_pictures_are_verified(grey: Classifier, rgb: Classifier, models: Path, cli: Run) -> None:
    for classifier in (grey, rgb):
        replays = verify(classifier)
        assert [replay.expected for replay in replays] == list(classifier.spec.classes)
        assert all(replay.passed and replay.found == replay.expected for replay in replays)
    done = cli("--verify", "--model", models / "rgb.onnx")
    assert b"verified: 4 golden pictures agree on this machine" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(("by", "passed"), [(5e-5, True), (2e-4, False)])
def test_the_tolerance_of_fp32_is_a_ten_thousandth(
    grey: Classifier, with_metadata: Edit, by: float, passed: bool
) -> None:
    replay = verify(Classifier(with_metadata("grey.onnx", "cnn.golden", shifted(grey, by))))[0]
    assert replay.passed is passed
    assert replay.difference == pytest.approx(by, abs=1e-5)


@pytest.mark.parametrize(("by", "passed"), [(0.019, True), (0.021, False)])
def test_the_tolerance_of_int8_is_two_hundredths(models: Path, grey: Classifier, by: float, passed: bool) -> None:
    assert with_precision_int8(models, shifted(grey, by))[0].passed is passed


def test_int8_must_give_the_same_class(models: Path, grey: Classifier) -> None:
    entry = golden(grey)[1]
    assert not with_precision_int8(models, json.dumps([{**entry, "probabilities": [0.51, 0.49, 0.0]}]))[0].passed
    stream = io.BytesIO()
    Image.new("L", (8, 8), 96).save(stream, "PNG")  # halfway from dark to middle: logits 2, 2, -2
    tie = {"png": base64.b64encode(stream.getvalue()).decode()}
    first, second = (
        with_precision_int8(models, json.dumps([{**tie, "probabilities": values}]))[0]
        for values in ([0.4955, 0.4955, 0.009], [0.49, 0.501, 0.009])
    )
    assert first.passed
    assert second.difference < 0.02
    assert (second.passed, second.expected, second.found) == (False, "middle", "dark")


def with_precision_int8(models: Path, entries: str) -> Any:
    classifier = Classifier(models / "grey.onnx")
    spec = replace(classifier.spec, details={"precision": "int8"})
    metadata = {**classifier.model.metadata, "cnn.golden": entries}
    return verify(Classifier(replace(classifier.model, spec=spec, metadata=metadata)))


def test_a_difference_is_exit_code_1(grey: Classifier, with_metadata: Edit, tmp_path: Path, cli: Run) -> None:
    (tmp_path / "model.onnx").write_bytes(with_metadata("grey.onnx", "cnn.golden", shifted(grey, 0.01)))
    done = cli("--verify", "--model", "model.onnx", code=1)
    last = done.stderr.decode().splitlines()[-1]
    assert last == "cnn-infer: 1 of 3 golden pictures differ on this machine (worst 0.01)"


def test_nan_fails(grey: Classifier, with_metadata: Edit) -> None:
    entries = golden(grey)
    entries[0]["probabilities"][0] = float("nan")
    assert not verify(Classifier(with_metadata("grey.onnx", "cnn.golden", json.dumps(entries))))[0].passed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "5",
        "[5]",
        "[{}]",
        "[" * 100_000,
        '[{"png": "", "probabilities": [1, 0, 0]}]',
        '[{"png": "?", "probabilities": [1, 0, 0]}]',
        '[{"png": 1, "probabilities": [1, 0, 0]}]',
        '[{"png": "iVBORw0KGgo=", "probabilities": [1, 0, 0]}]',
        "few",
        "text",
        "huge",
    ],
)
def test_damaged_golden_pictures_are_refused(grey: Classifier, with_metadata: Edit, text: str) -> None:
    values: dict[str, Any] = {"few": [1, 0], "text": ["a", "b", "c"], "huge": [10**400, 0, 0]}
    if text in values:
        text = json.dumps([{**golden(grey)[0], "probabilities": values[text]}])
    with pytest.raises(ModelError, match="golden pictures are damaged"):
        verify(Classifier(with_metadata("grey.onnx", "cnn.golden", text)))


def test_golden_pictures_of_16_bits_are_damaged(grey: Classifier, with_metadata: Edit) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(stream, "PNG")
    entry = {**golden(grey)[0], "png": base64.b64encode(stream.getvalue()).decode()}
    with pytest.raises(ModelError, match="golden pictures are damaged"):
        verify(Classifier(with_metadata("grey.onnx", "cnn.golden", json.dumps([entry]))))


def test_a_failing_run_is_not_taken_for_damaged_golden_pictures(models: Path) -> None:
    rows = struct.pack("<qq", 1, 1)  # the shape to which the graph reshapes: one picture
    data = (models / "fails_in_batches.onnx").read_bytes()
    assert data.count(rows) == 1
    with pytest.raises(ModelError, match=r"^the model failed on 1 picture: .*Reshape"):
        verify(Classifier(data.replace(rows, struct.pack("<qq", 2, 1))))


def test_a_model_without_golden_pictures_is_refused(with_metadata: Edit) -> None:
    with pytest.raises(
        ModelError, match="carries no golden pictures: they were too large, or left out with --golden 0"
    ):
        verify(Classifier(with_metadata("grey.onnx", "cnn.golden", "[]")))


def test_packing_keeps_its_limits() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (20, 8, 8, 1), np.uint8)
    probabilities = rng.random((20, 2), np.float32)
    assert len(json.loads(pack(small, probabilities))) == 8
    assert len(json.loads(pack(small, probabilities, 3))) == 3
    assert json.loads(pack(small, probabilities, 0)) == []
    large = rng.integers(0, 256, (8, 96, 96, 3), np.uint8)  # about 37 KB each in base64
    text = pack(large, probabilities[:8])
    assert len(json.loads(text)) == 1
    assert len(text) <= MAX_BYTES == 65536
    for entry, picture, row in zip(json.loads(pack(small, probabilities)), small, probabilities, strict=False):
        image = Image.open(io.BytesIO(base64.b64decode(entry["png"])))
        np.testing.assert_array_equal(np.asarray(image), picture[..., 0])
        np.testing.assert_allclose(entry["probabilities"], row, atol=1e-7)
