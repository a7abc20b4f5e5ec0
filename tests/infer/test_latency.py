"""--latency and cnn_infer.latency: every stage is measured, and the stages add up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cnn_infer import DeviceError, InputError
from cnn_infer.latency import STAGES, measure, text

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_the_command_measures_every_stage(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "in" / "a.jpg", "red", (600, 400))
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    done = cli("in", "--latency", "--model", models / "rgb.onnx", "--format", "jsonl")
    found = json.loads(done.stdout)
    assert set(found["stages"]) == set(STAGES)
    total = sum(stage["mean"] for stage in found["stages"].values())
    assert total == pytest.approx(found["single_stream"]["mean"], rel=1e-6)
    assert found["stages"]["decode"]["p50"] > found["stages"]["model"]["p50"]  # a large picture, a tiny network
    assert found["offline"] > 100
    assert found["import_ms"] > 1
    assert found["noisy"] is (found["variation"] > 0.05)


def test_the_text_for_people_and_unreadable_pictures(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "a.png", "red")
    printed = cli("a.png", "--latency", "--model", models / "rgb.onnx").stdout.decode()
    assert "SingleStream" in printed
    assert "Offline" in printed
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert (
        b"none of the pictures can be read" in cli("b.png", "--latency", "--model", models / "rgb.onnx", code=2).stderr
    )


def test_latency_without_pictures_is_refused_also_beside_info(models: Path, cli: Run) -> None:
    done = cli("--latency", "--info", "--model", models / "rgb.onnx", code=2)
    assert b"--latency is measured on pictures" in done.stderr


def test_measure_takes_folders(tmp_path: Path, models: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    found = measure(models / "rgb.onnx", [tmp_path / "in"])
    assert text(replace(found, threads=1)).splitlines()[-2].endswith(" pictures/s on 1 thread")
    assert found.model == str(models / "rgb.onnx")
    assert found.calls > 0
    with pytest.raises(InputError, match="no such file or folder"):
        measure(models / "rgb.onnx", [tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures found"):
        measure(models / "rgb.onnx", [tmp_path / "empty"])


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            DeviceError,
            "cannot measure how long the imports take: the process was ended by SIGSEGV",
        ),
        ("import atexit; print('hi', end=''); atexit.register(print, 'bye')", InputError, "none of the pictures"),
    ],
)
def test_an_onnx_runtime_that_crashes_is_named_and_one_that_prints_is_measured(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "modules" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "modules" / "onnxruntime" / "__init__.py").write_text(code)
    (tmp_path / "a.png").write_bytes(b"no picture")  # after the measurement of the imports this ends the call
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    with pytest.raises(error, match=message):
        measure(models / "rgb.onnx", [tmp_path / "a.png"])
