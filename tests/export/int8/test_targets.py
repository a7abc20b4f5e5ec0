"""Models for other processors and other opsets: assertions about the files, which hold on every machine."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cnn_export import ExportError, GraphError, export
from cnn_export.int8.overflow import prove
from cnn_export.int8.targets import RUNS_ON, TARGETS, kind_of_this_machine, target_of
from cnn_export.run_data import open_run_source, read_test_split
from cnn_infer import Classifier, verify
from cnn_infer.system import machine as this_machine
from cnn_train import Run
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator


def exported(run: Run, **options: object) -> onnx.ModelProto:
    result = export(run, quantize=True, search_seconds=0, max_drop=100, **options)
    assert result.int8 is not None
    return onnx.load(run.path / result.int8.file)


def accuracy(run: Run, model: onnx.ModelProto) -> float:
    """On the test split, in the evaluator of ONNX: exact on every machine, also where int8 sums would saturate."""
    test = read_test_split(run, open_run_source(run, None))
    (logits,) = ReferenceEvaluator(model).run(["logits"], {"image": np.ascontiguousarray(test.images)})
    return float((logits.argmax(axis=1) == test.labels).mean())


def weights(model: onnx.ModelProto) -> np.ndarray:
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == 3]
    return np.concatenate([array.ravel() for array in arrays if array.ndim > 1]).astype(int)


def activations(model: onnx.ModelProto) -> set[int]:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {kinds[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize(
    ("target", "most", "kind", "proven"),
    [
        (None, 127, TensorProto.UINT8, True),
        ("vnni", 127, TensorProto.UINT8, False),
        ("avx2", 64, TensorProto.UINT8, True),
        ("generic", 64, TensorProto.UINT8, True),
        ("arm", 127, TensorProto.UINT8, False),
    ],
)
def test_a_target_decides_the_numbers_in_the_file(
    run: Run, target: str | None, most: int, kind: int, proven: bool
) -> None:
    model = exported(run, target=target)
    assert np.abs(weights(model)).max() == most
    assert activations(model) == {kind}
    assert accuracy(run, model) >= accuracy(run, onnx.load(run.path / "model.onnx")) - 0.05
    spec = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "cnn.spec"))
    integers = spec["details"]["parity"]["fp32_against_int8"]["integers"]
    assert integers == json.loads(json.dumps(prove(model).certificate))
    assert integers["proven"] is proven


def test_a_file_for_any_processor_is_refused_where_a_sum_can_overflow(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn_export.int8.quantize.limit_pairs", lambda *_: None)
    with pytest.raises(GraphError, match=r"sums of two products reach from .* pass target \(--for\) vnni"):
        exported(run)
    assert not list(run.path.glob("*.onnx"))


def test_the_default_target_is_any_processor() -> None:
    assert target_of() == TARGETS["any"]
    assert [name for name, target in TARGETS.items() if target.limit_pairs] == ["any"]


@pytest.mark.parametrize("instruction_set", RUNS_ON)
def test_every_instruction_set_has_a_kind(monkeypatch: pytest.MonkeyPatch, instruction_set: str) -> None:
    monkeypatch.setattr("cnn_export.int8.targets.machine.instruction_set", lambda: instruction_set)
    assert kind_of_this_machine() == RUNS_ON[instruction_set]


def test_every_target_but_any_is_the_kind_of_some_machine() -> None:
    assert this_machine.instruction_set() in RUNS_ON
    assert {*RUNS_ON.values(), "any"} == set(TARGETS)


@pytest.mark.parametrize(("opset", "ir_version"), [(18, 9), (21, 10), (23, 11)])
def test_the_file_has_the_requested_opset(run: Run, opset: int, ir_version: int) -> None:
    int8 = exported(run, opset=opset, target="generic")
    assert all(replay.passed for replay in verify(Classifier(run.path / "model.int8.onnx", device="cpu")))
    for model in (int8, onnx.load(run.path / "model.onnx")):
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
        assert model.ir_version == ir_version
        onnx.checker.check_model(model, full_check=True)
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("opset", "expected"), [(17, "a whole number of at least 18"), (999, r"at most \d+ with")])
def test_other_opsets_are_refused(run: Run, opset: int, expected: str) -> None:
    with pytest.raises(ExportError, match=f"opset must be {expected}"):
        export(run, opset=opset)
    assert not Path(run.path, "model.onnx").exists()
