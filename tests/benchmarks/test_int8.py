"""The scripts behind the int8 tables run on a real export, and their figures equal those of the export."""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from cnn_export import export
from cnn_train import train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one exported run, under the name that presets.py expects."""
    path = tmp_path_factory.mktemp("presets")
    export(train("digits", out=path / "digits-nano-0", model="nano", epochs=4), quantize=True, search_seconds=0)
    return path


def output_of(script: str, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def int8_file(folder: Path) -> Path:
    return next((folder / "digits-nano-0").glob("model.int8*.onnx"))


def test_the_table_of_presets_has_the_figures_of_the_export(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "presets.json"
    table = output_of("presets.py", "digits", "--models", "nano", "--folder", folder, "--output", output)
    (row,) = json.loads(output.read_text())["rows"]
    int8 = json.loads((folder / "digits-nano-0" / "export.json").read_text())["int8"]
    assert row["accuracy_int8"] == int8["test"]["accuracy_int8"]
    assert row["bytes"][1] == int8_file(folder).stat().st_size > row["bytes_without_metadata"][1]
    assert f"{row['accuracy_int8']:.2%} int8" in table


def test_an_interrupted_copy_of_a_run_is_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    exported, run, half = import_module("exports").exported, folder / "digits-nano-0", tmp_path / "digits-nano-0-any"
    half.mkdir()
    shutil.copy(run / "config.toml", half)
    assert exported(run, "any", tmp_path, 0) == half
    assert {path.name for path in run.iterdir()} - {"checkpoint.pt"} <= {path.name for path in half.iterdir()}
    before = (half / "export.json").stat().st_mtime_ns
    assert exported(run, "any", tmp_path, 0) == half
    assert (half / "export.json").stat().st_mtime_ns == before


def test_every_node_is_timed(folder: Path) -> None:
    lines = output_of("nodes.py", int8_file(folder), "--batch", 4).splitlines()
    convolutions = [line.split() for line in lines if " QLinearConv " in line]
    assert len(convolutions) == 5
    # 8x8 pixels; the second convolution has 8 input and 32 output channels
    assert float(convolutions[1][2]) == round(64 * 8 * 9 * 32 / 1e6, 2)
    times = [float(line.split()[0]) for line in lines[2:-1]]
    assert float(lines[-1].split()[0]) == pytest.approx(sum(times), abs=0.2)


OTHER_RUNTIME = """#!{python}
import json, subprocess, sys
import numpy as np
subprocess.run([{python!r}, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
found = np.load(sys.argv[3] + "/onnxruntime.npy")
np.save(sys.argv[3] + "/{name}.npy", found + np.float32(0.001))
print(json.dumps({{{name!r}: "0"}}))
"""
"""A Python whose runtime gives probabilities that differ by 0.001."""


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_difference_passes_only_in_a_runtime_that_may_round_differently(
    folder: Path, tmp_path: Path, name: str
) -> None:
    python, output = tmp_path / "python", tmp_path / "runtimes.json"
    python.write_text(OTHER_RUNTIME.format(python=sys.executable, name=name))
    python.chmod(0o755)
    output_of("runtimes.py", folder / "digits-nano-0", "--python", python, "--output", output, code=1)
    passed = {row["model"]: row["passed"] for row in json.loads(output.read_text())["rows"]}
    int8 = f"digits-nano-0/{int8_file(folder).name}"
    assert passed == {"digits-nano-0/model.onnx": False, int8: name == "openvino"}


def test_another_process_gives_the_same_probabilities(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "runtimes.json"
    run = folder / "digits-nano-0"
    output_of("runtimes.py", run, "--python", sys.executable, "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert {row["model"] for row in rows} == {f"{run.name}/{path.name}" for path in run.glob("model*.onnx")}
    assert all(row["passed"] and row["other_classes"] == 0 and row["pictures"] == 179 for row in rows)
