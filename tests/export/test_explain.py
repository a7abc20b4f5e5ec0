"""``cnn-export --explain`` lists the stages that differ, the lowest signal-to-noise ratio first."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cnn_export import export
from cnn_export.explain import explain, snr
from cnn_train import Run
from onnx import numpy_helper


@pytest.fixture(scope="module")
def files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export to fp32 and int8, with both optional outputs."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("explained") / "run")
    export(folder, quantize=True, search_seconds=0, max_drop=100, evidence=True, strangers=0.25)
    return folder


@pytest.fixture
def exported(run: Run, files: Path) -> Run:
    shutil.copytree(files, run.path, dirs_exist_ok=True)
    return run


@pytest.fixture
def command(run: Run, fork: Callable[..., Any]) -> Callable[[], tuple[int, str, str]]:
    """Runs ``cnn-export --explain``; returns the exit code, standard output and standard error."""

    def call() -> tuple[int, str, str]:
        process = fork(run.path.parent, "export", run.path, "--explain")
        return process.wait(), process.stdout.read_text(), process.said()

    return call


def test_the_signal_to_noise_ratio_is_in_decibels() -> None:
    wanted = np.array([3.0, 4.0])
    assert snr(wanted, wanted) == math.inf
    assert snr(wanted, wanted + np.array([0.0, 0.5])) == pytest.approx(20)
    assert snr(np.zeros(2), np.ones(2)) == -math.inf


def test_a_good_export_differs_only_in_int8(exported: Run) -> None:
    stages = {stage.name: stage for stage in explain(exported)}
    assert stages["decode"].snr == stages["resize"].snr == math.inf
    assert stages["normalise"].snr == math.inf
    assert stages["graph"].snr > 90
    layers = [stage for name, stage in stages.items() if name.startswith("int8 ")]
    assert len(layers) >= 5
    # the tensors of the optional outputs come from statistics of each file
    assert not [name for name in stages if "evidence" in name or "strangeness" in name]
    assert 10 < min(stage.snr for stage in layers) < 60
    ratios = [stage.snr for stage in explain(exported)]
    assert ratios == sorted(ratios)


def test_another_resize_is_listed_first(exported: Run, command: Callable[[], tuple[int, str, str]]) -> None:
    spec = json.loads((exported.path / "spec.json").read_text())
    (exported.path / "spec.json").write_text(json.dumps({**spec, "filter": "box"}))
    code, printed, _ = command()
    assert code == 0
    stages = {line.split()[0]: line for line in printed.splitlines()[1:]}
    assert next(iter(stages)) == "resize"
    assert "DIFFERENT" in stages["resize"]
    assert "the same" in stages["decode"]


def test_another_decoder_is_distinguished_from_another_resize(exported: Run) -> None:
    spec = json.loads((exported.path / "spec.json").read_text())
    spec["details"]["data"] |= {"test_decoded": "0", "test_pixels": "0"}
    (exported.path / "spec.json").write_text(json.dumps(spec))
    stages = {stage.name: stage.snr for stage in explain(exported.path)}
    assert stages["decode"] == stages["resize"] == -math.inf


@pytest.mark.parametrize(("kind", "stage"), [("weight", "graph"), ("pixel_scale", "normalise")])
def test_a_planted_fault_shows_in_its_stage(exported: Run, kind: str, stage: str) -> None:
    model = onnx.load(exported.path / "model.onnx")
    tensor = next(
        tensor
        for tensor in model.graph.initializer
        if (tensor.name == kind if kind == "pixel_scale" else len(tensor.dims) == 4)
    )
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
    onnx.save(model, exported.path / "model.onnx")
    found = {one.name: one.snr for one in explain(exported)}
    assert found[stage] < 30
    assert found["decode"] == found["resize"] == math.inf
    assert (found["normalise"] == math.inf) is (stage == "graph")


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_a_damaged_export_is_one_line(run: Run, command: Callable[[], tuple[int, str, str]], name: str) -> None:
    models = Path(__file__).parents[1] / "infer" / "models"
    for file in ("model.onnx", "model.int8.onnx"):
        shutil.copy(models / "rgb.onnx", run.path / file)
    content = (run.path / name).read_bytes()
    (run.path / name).write_bytes(content[: len(content) // 2])
    code, _, errors = command()
    assert code == 2
    last = errors.strip().splitlines()[-1]
    assert last.startswith("cnn-export: not an ONNX model, or damaged: ")
    assert last.endswith(": export again")
    assert "Traceback" not in errors


def test_a_run_without_an_export_is_refused(command: Callable[[], tuple[int, str, str]]) -> None:
    code, _, errors = command()
    assert code == 2
    assert errors.strip().splitlines()[-1].endswith("has no model.onnx: export it first, or name another run")
