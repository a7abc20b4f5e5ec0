"""The fp16 model: its graph, its proof, what stays in fp32, and what the options do with it."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cnn_export import Export, ExportError, cli, export, export_lines, export_network, exporting, half as half_module
from cnn_export.graph.half import rounded, to_half, unfit
from cnn_export.half import compare
from cnn_export.parity import Outputs
from cnn_infer import Classifier, verify_all
from cnn_infer.command.info import for_people
from cnn_infer.model import INPUT
from cnn_infer.proof.origin import accuracy_of, inexactness_of
from cnn_train import Run, write_page
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("half") / "run")
    return export(folder, half=True, quantize=True, search_seconds=0, max_error=0.5)


@pytest.fixture(scope="module")
def model(exported: Export) -> Path:
    return exported.folder / "model.half.onnx"


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def logits_of(model: ModelProto | bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {INPUT: pictures})[0]
    return logits


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cnn-export", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_the_graph_is_fp16_between_the_inputs_and_outputs_of_every_model(model: Path, exported: Export) -> None:
    found, before = onnx.load(model), onnx.load(exported.folder / "model.onnx")
    assert (found.ir_version, [(one.domain, one.version) for one in found.opset_import]) == (9, [("", 20)])
    assert (found.graph.input, found.graph.output) == (before.graph.input, before.graph.output)
    operators = Counter(node.op_type for node in found.graph.node)
    assert operators == Counter(node.op_type for node in before.graph.node) + Counter(Cast=2)
    floats = {tensor.name for tensor in found.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert floats == {"pixel_scale"}
    contents = Counter((tensor.raw_data, *tensor.dims) for tensor in found.graph.initializer)
    assert (
        max(contents.values())
        == Counter((tensor.raw_data, *tensor.dims) for tensor in before.graph.initializer).most_common(1)[0][1]
    )
    sizes = [sum(len(tensor.raw_data) for tensor in one.graph.initializer) for one in (found, before)]
    assert 0.49 < sizes[0] / sizes[1] < 0.55
    assert exported.half is not None
    assert exported.half.bytes == model.stat().st_size < exported.bytes


def test_the_report_has_it_and_it_never_ships(
    exported: Export, model: Path, spec_problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    report = json.loads((exported.folder / "export.json").read_text())
    found = report["half"]
    assert report["ship"] in ("model.onnx", "model.int8.onnx")
    assert (found["file"], found["images"], found["floats"]) == ("model.half.onnx", len(exported.parity.flips) + 6, {})
    assert 0 < found["logits"]["relative"] <= found["tolerance"] == 4 * found["roundings"] ** 0.5 / 2048
    assert {"fp32", "fp16", "int8"} == set(report["calibration"]) == set(report["guarantee"])
    classifier = Classifier(model, device="cpu")
    assert spec_problems(classifier.spec) == []
    assert spec_problems(classifier.spec, precision="fp8")
    details = classifier.spec.details
    assert details["precision"] == "fp16"
    assert details["guarantee"] == report["guarantee"]["fp16"]
    certificate = details["parity"]["fp32_against_fp16"]
    assert certificate == {key: found[key] for key in certificate}
    assert accuracy_of(classifier) == found["accuracy_fp16"]
    assert inexactness_of(classifier) == found["flips"]
    summary = "\n".join(export_lines(exported))
    assert "fp16           model.half.onnx, " in summary
    assert f"roundings to fp16)\n  probability  differs by at most {found['probabilities']['max']:.2g}\n" in summary
    assert "fp16        for GPUs" in for_people(classifier)
    write_page(Run.open(exported.folder), tmp_path / "page.html")
    assert f"model.half.onnx, {found['bytes']:,} bytes, accuracy " in (tmp_path / "page.html").read_text()


def test_it_replays_its_pictures_and_answers_as_fp32(model: Path, exported: Export, photos: Path) -> None:
    found = verify_all(Classifier(model, device="cpu"))
    assert (found.passed, found.tolerance) == (True, 0.02)
    files = sorted(photos.rglob("*.jpg"))
    answers = []
    for name in ("model.onnx", "model.half.onnx"):
        classifier = Classifier(exported.folder / name, device="cpu")
        answers.append(classifier.probabilities(np.stack([classifier.pixels(file) for file in files])))
    np.testing.assert_allclose(answers[0], answers[1], atol=5e-3)
    assert (answers[0].argmax(axis=1) == answers[1].argmax(axis=1)).all()


def test_pytorch_in_fp16_gives_the_same(
    exported: Export, model: Path, pictures: NDArray[np.uint8], trained: Path
) -> None:
    run = Run.open(trained)
    planes = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32))
    with torch.no_grad():
        raw = run.network().half()(((planes - run.spec.zero_point) * run.spec.scale).half()).float().numpy()
    expected = raw / run.spec.temperature
    assert exported.half is not None
    limit = 2 * exported.half.tolerance * np.abs(expected).max()  # both round
    as_on_gpu, _ = rounded(onnx.load(model))
    found = [logits_of(graph, pictures) for graph in (as_on_gpu, model.read_bytes())]
    assert max(np.abs(one - expected).max() for one in found) <= limit
    assert np.abs(found[0] - found[1]).max() > 0  # a CPU does not round between the nodes


def rescaled(factor: float) -> Callable[[ModelProto], None]:
    """A network that computes the same by other numbers: the first layer times a factor, the second divided by it."""

    def change(model: ModelProto) -> None:
        values = {tensor.name: tensor for tensor in model.graph.initializer}
        first, second = [node for node in model.graph.node if node.op_type == "Conv"][:2]
        for name, times in (*((name, factor) for name in first.input[1:]), (second.input[1], 1 / factor)):
            changed = (numpy_helper.to_array(values[name]) * times).astype(np.float32)
            values[name].CopyFrom(numpy_helper.from_array(changed, name))

    return change


def plant(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fault: Callable[[ModelProto], None]) -> None:
    original = getattr(owner, name)

    def faulty(model: ModelProto, *rest: object) -> ModelProto:
        result: ModelProto = original(model, *rest)
        fault(result)
        return result

    monkeypatch.setattr(owner, name, faulty)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # without the rule
@pytest.mark.parametrize(("factor", "reason"), [(1e6, "reaches"), (1e-9, "is 0 in fp16")])
def test_what_fp16_cannot_hold_stays_in_fp32_by_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, factor: float, reason: str, pictures: NDArray[np.uint8]
) -> None:
    plant(monkeypatch, exporting, "keep_contract", rescaled(factor))
    found = export(run, half=True)
    assert found.half is not None
    names = list(found.half.floats)
    nodes = {node.name: node for node in onnx.load(run.path / "model.onnx").graph.node}
    assert [nodes[name].op_type for name in names] == ["Conv", "Relu", "Conv"]
    assert reason in " ".join(found.half.floats.values())
    assert f"kept in fp32: {names[0]}: " in "\n".join(export_lines(found))
    assert names[2] in for_people(Classifier(run.path / "model.half.onnx", device="cpu"))
    graph = onnx.load(run.path / "model.onnx")
    assert unfit(graph, [{INPUT: pictures}]).keys() == set(names)
    without, _ = rounded(to_half(graph, ()))  # without the rule it would be wrong
    assert not np.allclose(logits_of(without, pictures), logits_of(graph, pictures), rtol=0.1)


def test_a_tiny_bias_is_rounded(exported: Export, pictures: NDArray[np.uint8]) -> None:
    graph = onnx.load(exported.folder / "model.onnx")
    name = next(node.input[2] for node in graph.graph.node if node.op_type == "Conv" and len(node.input) > 2)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == name)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.float32(1e-9), name))
    assert unfit(graph, [{INPUT: pictures}]) == {}


def test_a_failed_fp16_model_is_left_out_and_the_other_files_are_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (run.path / "model.half.onnx").touch()  # of an earlier export

    def negate(model: ModelProto) -> None:
        weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
        weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))

    plant(monkeypatch, half_module, "to_half", negate)
    assert run_command(monkeypatch, str(run.path), "--half", "--quantize", "--search-seconds", "0") == 1
    shown = capsys.readouterr()
    report = json.loads((run.path / "export.json").read_text())
    evidence = report["half"]
    assert evidence["logits"]["relative"] > evidence["tolerance"]
    assert evidence["failed"].startswith("fp16: logits differ by up to ")
    end = f"model.half.onnx was not written, the evidence is in {run.path / 'export.json'}"
    assert shown.err.splitlines()[-1] == f"cnn-export: {evidence['failed']}; {end}"
    assert f"fp16           FAILED, no model.half.onnx: {evidence['failed']}\n" in shown.out
    assert set(report["calibration"]) == {"fp32", "int8"}
    assert {path.name for path in run.path.glob("model*.onnx")} == {"model.onnx", report["int8"]["file"]}
    assert not (run.path / "export.failed.json").exists()
    caplog.clear()
    monkeypatch.undo()
    export(run)
    assert "the earlier export had an fp16 model" not in caplog.text


def test_a_file_that_does_not_replay_its_pictures_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_module, "replayed_file", lambda *_: (b"", "the file does not replay its own pictures"))
    found = export(run, half=True).half
    assert found is not None
    assert found.failed == "fp16: the file does not replay its own pictures"
    assert not (run.path / "model.half.onnx").exists()


def test_a_crash_of_onnx_runtime_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(run.path.iterdir())
    monkeypatch.setattr(half_module, "OPEN", "import os; os.abort()")
    assert run_command(monkeypatch, str(run.path), "--half") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "cnn-export: ONNX Runtime crashes on the fp16 graph: leave out half (--half)"
    assert set(run.path.iterdir()) == before


def test_many_lost_pictures_and_numbers_that_are_none_fail() -> None:
    labels = np.arange(4000) % 2
    logits = np.stack([1 - labels, labels], axis=1).astype(np.float32) * 1e-4
    logits[0] = 100, -100

    def judged(change: int, value: float = 1) -> str:
        other = logits.copy()
        other[1 : change + 1] *= -value
        found = {"cpu": Outputs(logits, logits), "gpu": Outputs(other, other)}
        return compare(Outputs(logits, logits), found, labels, [str(n) for n in range(4000)], 10, {}).failed

    assert judged(4) == ""
    assert judged(5) == "fp16 loses 5 of 4,000 test pictures, more than 0.1 percentage points"
    assert judged(1, float("nan")) == "fp16: an output is not a number (at 1)"


def test_a_network_whose_last_layer_is_0_has_an_fp16_model(photos: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    found = export_network(
        network, tmp_path / "out", data=photos, size=16, mean=0.5, std=0.5, cache=tmp_path / "cache", half=True
    ).half
    assert found is not None
    assert (found.logits, found.failed) == ({"max": 0, "mean": 0, "relative": 0}, "")
    labels = np.zeros(2, np.int64)
    zero, other = (Outputs(np.full((2, 3), value, np.float32), np.eye(2, 3, dtype=np.float32)) for value in (0, 0.1))
    judged = compare(zero, {"cpu": zero, "gpu": other}, labels, ["a", "b"], 10, {})
    assert judged.failed.startswith("fp16: logits differ by up to 0.1, more than ")


@pytest.mark.parametrize("option", ["--evidence", "--strangers"])
def test_options_that_fp16_excludes_are_refused(
    option: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, str(trained), "--half", option) == 2
    assert capsys.readouterr().err == (
        f"cnn-export: --half excludes {option}: an fp16 model does not have that output\n"
    )
    with pytest.raises(ExportError, match="half excludes evidence and strangers: "):
        export(trained, half=True, evidence=True, strangers=0.1)


def test_an_export_without_it_removes_it_and_says_so(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cnn_export")
    export(run, half=True)
    assert (run.path / "model.half.onnx").exists()
    caplog.clear()
    export(run)
    assert not (run.path / "model.half.onnx").exists()
    messages = [record.message for record in caplog.records]
    assert "the earlier export had an fp16 model: add --half to keep it" in messages
    assert f"removed {run.path / 'model.half.onnx'} of an earlier export" in messages
