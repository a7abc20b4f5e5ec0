"""The command ``cnn-export`` and a call of ``export()``: options, messages, and a missing ONNX Runtime."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from cnn_export import ExportError, export
from cnn_export.cli import command as click_command
from cnn_export.int8.targets import TARGETS
from cnn_export.options import OPTIONS, RunOptions, Settings, check_values
from cnn_export.summary import export_lines, int8_lines
from cnn_train import Run

WITHOUT_QUANTIZE = [
    ("--for", "avx2"),
    ("--max-drop", "1"),
    ("--calibration", "1024"),
    ("--search-seconds", "120"),
    ("--qat",),
]
WITH_EXPLAIN = [
    *WITHOUT_QUANTIZE,
    ("--quantize",),
    ("--tolerance", "0.0001"),
    ("--golden", "8"),
    ("--max-error", "1%"),
    ("--opset", "20"),
]


def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("cnn-export")
    return subprocess.run(
        [program, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_refused(done: "subprocess.CompletedProcess[str]", line: str) -> None:
    assert done.stderr == f"cnn-export: {line}\n"
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("option", WITHOUT_QUANTIZE, ids=lambda option: option[0])
def test_an_option_without_effect_is_refused_without_quantize(option: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused(command(tmp_path, *option), f"no effect without --quantize: {option[0]}")


@pytest.mark.parametrize("option", WITH_EXPLAIN, ids=lambda option: option[0])
def test_an_option_without_effect_is_refused_with_explain(option: tuple[str, ...], tmp_path: Path) -> None:
    assert_refused(command(tmp_path, "--explain", *option), f"no effect with --explain: {option[0]}")


def test_all_options_without_effect_are_named_at_once(tmp_path: Path) -> None:
    given = ("--qat", "--max-drop", "1", "--for", "arm")
    assert_refused(command(tmp_path, *given), "no effect without --quantize: --max-drop, --for, --qat")


@pytest.mark.parametrize(
    "arguments",
    [{"target": "avx2"}, {"max_drop": 1}, {"calibration_pictures": 8}, {"search_seconds": 0}, {"qat": True}],
    ids=str,
)
def test_a_call_refuses_arguments_without_effect(arguments: dict[str, object], tmp_path: Path) -> None:
    [name] = arguments
    with pytest.raises(ExportError, match=f"^no effect without quantize=True: {name}$"):
        export(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("tolerance", (-0.1, 1.1, float("nan"), "0.1")),
        ("max_drop", (-1, 101, float("nan"))),
        ("max_error", (0, 1, -0.01, float("nan"), "1%")),
        ("strangers", (0, 1, True, float("nan"), "1%")),
        ("golden_pictures", (-1, 9, 2.5)),
        ("calibration_pictures", (0, 1.5)),
        ("search_seconds", (-1, float("nan"))),
        ("target", ("sparc",)),
        ("opset", (17, 999, "20")),
    ],
)
def test_a_call_refuses_values_out_of_range(argument: str, values: tuple[object, ...], tmp_path: Path) -> None:
    for value in values:
        with pytest.raises(ExportError, match=f"^{argument} must be .*, not {value!r}$"):
            export(tmp_path, quantize=True, **{argument: value})


def test_a_call_takes_the_floats_of_numpy() -> None:
    check_values({"tolerance": np.float64(0.001), "max_drop": np.float64(0.2), "search_seconds": np.float64(5)})
    with pytest.raises(ExportError, match=r"^tolerance must be a number from 0 to 1, not True$"):
        check_values({"tolerance": True})


def test_the_command_has_the_defaults_and_ranges_of_the_call() -> None:
    context = click_command.make_context("cnn-export", [])
    parameters = {parameter.name: parameter for parameter in click_command.params}
    for name, option in OPTIONS.items():
        assert parameters[name].opts == [option.flag]
        assert context.params[name] == getattr(Settings(), name) == option.default, name
    assert {field.name for field in fields(Settings)} == set(OPTIONS) == set(RunOptions.__annotations__)
    assert OPTIONS["target"].choices == tuple(TARGETS)
    for given, share in (("--strangers", 0.01), ("--strangers=2%", 0.02), ("--strangers=0.5", 0.5)):
        assert click_command.make_context("cnn-export", ["run", given]).params["strangers"] == share


@pytest.mark.parametrize("options", ["", "--quantize", "--explain"])
def test_a_closed_standard_output_is_refused_before_any_work(options: str, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("cnn-export")
    line = f"exec '{program}' '{tmp_path / 'absent'}' {options} >&-"  # the run folder is not even looked for
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines[-1] == "cnn-export: standard output is closed: redirect it to a file or a pipe"
    assert done.returncode == 2
    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "cnn_export.cli" in loaded
    assert not loaded & {"torch", "onnx", "numpy"}


def test_help_names_values_as_the_other_commands_do() -> None:
    shown = click_command.get_help(click_command.make_context("cnn-export", []))
    assert "--golden N " in shown
    assert "--tolerance X " in shown
    assert "RANGE" not in shown


@pytest.fixture
def without_runtime(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``import onnxruntime`` fails."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "onnxruntime.py").write_text("raise ImportError(\"No module named 'onnxruntime'\")\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("option", ["--quantize", "--explain"])
def test_without_onnx_runtime_one_line_tells_how_to_install_it(
    run: Run, without_runtime: dict[str, str], option: str
) -> None:
    (run.path / "model.onnx").touch()
    done = command(run.path, option, **without_runtime)
    assert_refused(
        done,
        "ONNX Runtime is not installed or does not load (No module named 'onnxruntime'): "
        "pip install 'cnn-infer[cpu]'  (or 'cnn-infer[gpu]' for CUDA)",
    )


def test_help_needs_no_onnx_runtime(without_runtime: dict[str, str]) -> None:
    assert command("--help", **without_runtime).stdout.startswith("Usage: cnn-export [OPTIONS] [RUN]")


def test_a_call_prints_nothing(run: Run) -> None:
    (run.path / "export.failed.json").touch()  # the command reports that it removes this file
    code = f"from cnn_export import export; export({str(run.path)!r}, quantize=True, search_seconds=0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_summary_of_an_export(run: Run) -> None:
    result = export(run, quantize=True, search_seconds=0, max_drop=100)
    lines = export_lines(result)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "run",
        "parity",
        "fp32",
        "int8",
        "ships",
        "report",
        "next",
    ]
    assert lines[1].endswith("PyTorch and model.onnx agree on 6 test pictures")
    assert any(line.endswith("same class for 100.0000% of the pictures, 0 flips") for line in lines)
    assert any(line.startswith("int8           1 candidate, ") for line in lines)
    assert any(line.startswith("  * minmax, per channel ") for line in lines)
    assert f"ships          {run.path}/model.int8.onnx" in lines


def test_the_summary_names_nodes_that_are_not_int8(run: Run) -> None:
    result = export(run, quantize=True, search_seconds=0, max_drop=100)
    assert result.int8 is not None
    strays = tuple(f"node {number} (Elu): no int8 kernel" for number in range(6))
    lines = int8_lines(replace(result.int8, floats=("conv_1", "relu_1"), strays=strays))
    assert [line for line in lines if line.startswith(("  kept", "  not"))] == [
        "  kept in fp32: conv_1",
        "  kept in fp32: relu_1",
        *(f"  not in int8: {stray}" for stray in strays[:5]),
        "  not in int8: 1 more node, listed in export.json",
    ]


def test_a_file_that_cannot_be_written_leaves_the_earlier_export_as_it_was(run: Run) -> None:
    export(run)
    (run.path / "model.half.onnx").mkdir()
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    done = command(run.path, "--half")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"cnn-export: Is a directory: {run.path / 'model.half.onnx'}"
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before
