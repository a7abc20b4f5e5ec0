"""benchmarks/gpu.py runs its whole path on the CPU: engines, precisions, batch sizes, and what it could not measure."""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def run(fork: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network of two made-up classes: the script times a network, it does not judge it."""
    root = tmp_path_factory.mktemp("gpu")
    for label, colour in (("blue", (30, 40, 200)), ("red", (200, 40, 30))):
        (root / "data" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (16, 16), tuple(part + number for part in colour)).save(
                root / "data" / label / f"{number}.png"
            )
    small = ("--model", "nano", "--size", 16, "--epochs", 1, "--device", "cpu")
    assert fork(root, "train", "data", *small, "--out", "run").wait() == 0
    assert fork(root, "export", "run", "--half").wait() == 0
    return root / "run"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the script in this process, which has PyTorch, with short rounds, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = import_module("gpu")
    monkeypatch.setattr(script, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(script, "CALLS", 1)
    monkeypatch.setattr(script, "BATCHES", (1, 8))
    monkeypatch.setattr(script, "WARM_UP_SECONDS", 0.0)
    try:
        script.main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_every_engine_is_compared_and_timed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.json"
    engines = ("--engines", "onnxruntime", "eager")  # compiling takes a C++ compiler and half a minute
    assert call(monkeypatch, run, "--device", "cpu", "--rounds", 2, *engines, "--output", output) == 0
    found = json.loads(output.read_text())
    written = "python benchmarks/gpu.py RUN... --device cpu --rounds 2 --engines onnxruntime eager"
    assert found["command"] == written
    rows = found["rows"]
    keys = [(row["precision"], row["batch"], row["engine"], row["memory"]) for row in rows]
    assert keys == [
        (precision, batch, engine, memory)
        for precision in ("fp32", "fp16")
        for batch in (1, 8)
        for engine in ("onnxruntime", "eager")
        for memory in ("device", "host")
    ]
    assert {row["run"] for row in rows} == {"run"}
    assert all(0 < row["least_ms"] <= row["ms"] <= row["most_ms"] for row in rows)
    assert all(row["pictures_per_second"] == pytest.approx(1e3 * row["batch"] / row["ms"]) for row in rows)
    # a network that computes something else is timed for nothing
    assert all(row["logits_differ"] < (1e-5 if row["precision"] == "fp32" else 0.01) for row in rows)
    assert any(row["logits_differ"] > 0 for row in rows if row["precision"] == "fp16")
    assert found["not_measured"] == found["trainings"] == []
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_nothing_starts_after_the_time_limit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "gpu.json"
    options = ("--device", "cpu", "--seconds", 0, "--train", "cifar10-large-gpu-5s", "--output", output)
    assert call(monkeypatch, run, *options) == 0
    missing = json.loads(output.read_text())["not_measured"]
    batches = [f"run, {precision}, batch {batch}" for precision in ("fp32", "fp16") for batch in (1, 8)]
    assert missing == [*batches, "training cifar10-large-gpu-5s"]
    assert capsys.readouterr().out.splitlines() == [f"not measured: {name}" for name in missing]


def test_a_run_without_the_fp16_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").touch()
    assert call(monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gpu.py: error: {tmp_path} has no model.half.onnx: run cnn-export {tmp_path} --half first"
    )
