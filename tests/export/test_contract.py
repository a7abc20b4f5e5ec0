"""The exported files keep the model contract, in a plain ONNX Runtime session without our code."""

import ast
import collections
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cnn_export import export
from cnn_infer import Classifier, Spec, verify
from cnn_train import Run


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an fp32 and an int8 model."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("exported") / "run")
    export(folder, quantize=True, search_seconds=0, max_drop=100)
    return folder


@pytest.fixture(params=["fp32", "int8"])
def model(request: pytest.FixtureRequest, exported: Path) -> Path:
    return exported / ("model.onnx" if request.param == "fp32" else "model.int8.onnx")


def test_a_plain_session_runs_the_file_on_raw_pixels(model: Path) -> None:
    session = onnxruntime.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [
        ("image", "tensor(uint8)", ["batch", 16, 16, 3])
    ]
    assert [(node.name, node.type, node.shape) for node in session.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 3]),
        ("probabilities", "tensor(float)", ["batch", 3]),
    ]
    for count in (1, 5):
        pixels = np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        logits, probabilities = session.run(["logits", "probabilities"], {"image": pixels})
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(probabilities, shifted / shifted.sum(axis=1, keepdims=True), atol=1e-6)


def test_versions_domains_and_checker(model: Path) -> None:
    proto = onnx.load(model)
    assert proto.ir_version == 9
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 20)]
    onnx.checker.check_model(proto, full_check=True)
    assert not [tensor for tensor in proto.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]


def test_only_the_documented_files_are_written(exported: Path, trained: Path) -> None:
    assert {path.name for path in exported.iterdir()} - {path.name for path in trained.iterdir()} == {
        "model.onnx",
        "model.int8.onnx",
        "export.json",
        "candidates.png",
        "reliability.export.png",
    }


def test_other_readers_find_their_metadata(model: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert ast.literal_eval(metadata["names"]) == {0: "blue", 1: "green", 2: "red"}
    assert metadata["task"] == "classify"
    assert json.loads(metadata["imgsz"]) == [16, 16]
    assert metadata["Image.BitmapPixelFormat"] == "Rgb8"
    spec = Spec.from_json(metadata["cnn.spec"])
    assert spec.classes == ("blue", "green", "red")
    assert spec.details["parity"]["torch_against_onnx"]["passed"] is True
    assert spec.details["parity"]["instruction_set"]


def test_golden_pictures_are_stored_and_verified(model: Path) -> None:
    replays = verify(Classifier(model, device="cpu"))
    assert 3 <= len(replays) <= 8
    assert all(replay.passed for replay in replays)
    assert len({replay.expected for replay in replays}) == 3


def test_golden_zero_stores_no_pictures(run: Run) -> None:
    export(run, golden_pictures=0)
    metadata = {entry.key: entry.value for entry in onnx.load(run.path / "model.onnx").metadata_props}
    assert json.loads(metadata["cnn.golden"]) == []


def test_pictures_that_are_too_large_are_not_stored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_infer.proof.golden.MAX_BYTES", 100)
    export(run)
    metadata = {entry.key: entry.value for entry in onnx.load(run.path / "model.onnx").metadata_props}
    assert json.loads(metadata["cnn.golden"]) == []


def test_the_file_has_no_paths_of_the_training_machine(model: Path, photos: Path) -> None:
    content = model.read_bytes()
    assert str(photos).encode() not in content
    assert b".py" not in content  # in the stack traces that the exporter of PyTorch stores


def test_no_node_is_run_in_vain(model: Path) -> None:
    graph = onnx.load(model).graph
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    assert [node.name for node in graph.node if read.isdisjoint(node.output)] == []


def test_the_first_int8_convolution_reads_the_raw_pixels(exported: Path, tmp_path: Path) -> None:
    """The graph that ONNX Runtime runs has no fp32 node between the pixels and the logits."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        (exported / "model.int8.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    operators = collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert operators["QLinearConv"] >= 4
    assert operators["QGemm"] == 1
    allowed = {"QLinearConv", "QLinearAdd", "QGemm", "NhwcMaxPool", "MaxPool", "Softmax"}
    moves = {"Transpose", "Pad", "Slice", "Concat", "Reshape", "Flatten"}
    assert set(operators) <= allowed | moves, operators


def test_int8_biases_have_no_zero_point(exported: Path) -> None:
    graph = onnx.load(exported / "model.int8.onnx").graph
    biases = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT32}
    readers = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in biases]
    assert readers
    assert all(len(node.input) == 2 for node in readers)


def test_temperature_is_folded_into_the_logits(run: Run) -> None:
    """The file's logits are PyTorch's logits divided by the temperature of the specification."""
    import torch

    spec = json.loads((run.path / "spec.json").read_text())
    (run.path / "spec.json").write_text(json.dumps({**spec, "temperature": 1.7}))
    found = Run.open(run.path)
    export(found)
    pixels = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    planes = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        raw = found.network()((planes - found.spec.zero_point) * found.spec.scale).numpy()
    session = onnxruntime.InferenceSession((run.path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"image": pixels})[0], raw / 1.7, atol=1e-4)
