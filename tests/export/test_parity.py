"""Planted faults fail the parity check, and an earlier export is kept."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from cnn_export import cli, export, exporting
from cnn_export.parity import Outputs, check
from cnn_train import Run
from onnx import ModelProto, numpy_helper


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run ``cnn-export`` in this process, so that a fault can be planted in its graph, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["cnn-export", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def add_to_first_weight(value: float) -> Callable[[ModelProto], None]:
    """A fault: ``value`` is added to one weight of the first convolution."""

    def change(model: ModelProto) -> None:
        weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
        values = numpy_helper.to_array(weight).copy()
        values.flat[0] += value
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    return change


def negate_last_layer(model: ModelProto) -> None:
    """A fault: the weights of the last layer have the opposite sign."""
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))


def plant(monkeypatch: pytest.MonkeyPatch, fault: Callable[[ModelProto], None]) -> None:
    """Let the exporter write a graph with a fault."""
    original = exporting.keep_contract

    def faulty(model: ModelProto, *rest: object) -> ModelProto:
        result = original(model, *rest)
        fault(result)
        return result

    monkeypatch.setattr(exporting, "keep_contract", faulty)


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_one_changed_weight_fails_and_keeps_the_earlier_export(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    export(run)
    before = {name: (run.path / name).read_bytes() for name in ("model.onnx", "export.json")}
    plant(monkeypatch, add_to_first_weight(value))
    assert run_command(monkeypatch, str(run.path)) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("cnn-export: parity failed")
    assert before == {name: (run.path / name).read_bytes() for name in before}
    evidence = json.loads((run.path / "export.failed.json").read_text(), parse_constant=pytest.fail)
    assert evidence["parity"]["passed"] is False


def test_a_passed_export_removes_the_evidence_of_a_failed_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as planted:
        plant(planted, add_to_first_weight(1.0))
        assert run_command(planted, str(run.path)) == 1
    assert run_command(monkeypatch, str(run.path)) == 0
    assert not (run.path / "export.failed.json").exists()


def test_the_reported_accuracy_is_that_of_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tolerance that lets wrong weights pass, the file is less accurate than the network."""
    plant(monkeypatch, negate_last_layer)
    result = export(run, tolerance=1, golden_pictures=0)
    session = onnxruntime.InferenceSession((run.path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    test = exporting.read_test_split(run, exporting.open_run_source(run, None))
    predicted = session.run(["probabilities"], {"image": test.images})[0].argmax(axis=1)
    assert result.accuracy == (predicted == test.labels).mean()
    assert result.accuracy < run.report["test"]["accuracy"]
    assert json.loads((run.path / "export.json").read_text())["fp32"]["accuracy"] == result.accuracy


def test_another_resize_filter_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = json.loads((run.path / "spec.json").read_text())
    assert spec["filter"] == "bilinear"
    (run.path / "spec.json").write_text(json.dumps({**spec, "filter": "box"}))
    assert run_command(monkeypatch, str(run.path)) == 1
    assert "are decoded to other pixels" in capsys.readouterr().err
    assert not (run.path / "model.onnx").exists()


@pytest.mark.parametrize("what", ["weights", "scale"])
def test_another_network_than_was_tested_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    if what == "weights":
        state = safetensors.numpy.load_file(run.path / "model.safetensors")
        state["head.weight"] = -state["head.weight"]
        safetensors.numpy.save_file(state, run.path / "model.safetensors")
    else:
        spec = json.loads((run.path / "spec.json").read_text())
        (run.path / "spec.json").write_text(json.dumps({**spec, "scale": spec["scale"] * 3}))
    assert run_command(monkeypatch, str(run.path)) == 1
    assert "test loss" in capsys.readouterr().err


@pytest.mark.parametrize("data", [None, 5, {}, {"fingerprints": {"test": "0"}, "test_pixels": "0"}])
def test_a_specification_that_does_not_name_its_data_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: object
) -> None:
    spec = json.loads((run.path / "spec.json").read_text())
    spec["details"]["data"] = data
    (run.path / "spec.json").write_text(json.dumps(spec))
    assert run_command(monkeypatch, str(run.path)) == 2
    assert "does not describe the data set" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--tolerance", "nan"), ("--max-drop", "nan"), ("--max-drop", "-1")])
def test_nan_and_negative_limits_are_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    assert run_command(monkeypatch, str(run.path), option, value) == 2
    assert not (run.path / "export.failed.json").exists()


def test_data_that_is_gone_changed_or_other_is_an_error(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(photos, tmp_path / "moved")
    run = shutil.copytree(trained, tmp_path / "run")
    spec = json.loads((run / "spec.json").read_text())
    spec["details"]["data"]["location"] = str(tmp_path / "gone")
    (run / "spec.json").write_text(json.dumps(spec))
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace(str(photos), str(tmp_path / "gone")))
    assert run_command(monkeypatch, str(run)) == 2
    assert "--data" in capsys.readouterr().err
    assert run_command(monkeypatch, str(run), "--data", str(moved)) == 0
    for picture in moved.glob("*/*.jpg"):
        picture.write_bytes(next(photos.glob("red/*.jpg")).read_bytes())
    assert run_command(monkeypatch, str(run), "--data", str(moved)) == 2
    assert "not those of the run" in capsys.readouterr().err


def outputs(*probabilities: tuple[float, float]) -> Outputs:
    values = np.array(probabilities, np.float32)
    return Outputs(np.log(values), values)


def test_a_tie_within_the_tolerance_may_flip_and_nothing_else() -> None:
    reference = outputs((0.50002, 0.49998), (0.9, 0.1))
    tie = check(reference, [(1, outputs((0.49998, 0.50002), (0.9, 0.1)))], ["a", "b"], 1e-4)
    assert tie.passed
    assert [flip["picture"] for flip in tie.flips] == ["a"]
    assert tie.top1_agreement == 0.5
    apart = outputs((0.50008, 0.49992), (0.9, 0.1))
    flipped = check(apart, [(1, outputs((0.49999, 0.50001), (0.9, 0.1)))], ["a", "b"], 1e-4)
    assert flipped.probabilities["max"] <= 1e-4
    assert not flipped.passed
    assert flipped.reason == "1 test picture changes its class: a"
    found = [(size, outputs((0.49999, 0.50001), (0.49999, 0.50001))) for size in (1, 3)]
    both = check(outputs((0.50008, 0.49992), (0.50008, 0.49992)), found, ["a", "b"], 1e-4)
    assert both.reason == "2 test pictures change their class; the first is a"


def test_a_saturated_softmax_does_not_hide_other_logits() -> None:
    same = np.array([[1.0, 0.0]], np.float32)
    reference = Outputs(np.array([[40.0, 0.0]], np.float32), same)
    result = check(reference, [(1, Outputs(np.array([[44.0, 0.0]], np.float32), same))], ["a"], 1e-4)
    assert result.probabilities["max"] == 0
    assert "logits differ" in result.reason


def test_the_worst_batch_size_counts() -> None:
    reference = outputs((0.8, 0.2))
    found = [(1, reference), (3, outputs((0.7, 0.3)))]
    result = check(reference, found, ["a"], 1e-4)
    assert not result.passed
    assert result.probabilities["max"] == pytest.approx(0.1, abs=1e-6)
    assert result.batch_sizes == (1, 3)


def test_nan_fails_even_with_the_largest_tolerance() -> None:
    result = check(outputs((0.8, 0.2)), [(1, outputs((float("nan"), 0.2)))], ["a"], 1.0)
    assert not result.passed
    assert "not a number" in result.reason
