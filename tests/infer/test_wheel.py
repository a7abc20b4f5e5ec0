"""The wheel of cnn-infer works alone, in a virtual environment without torch, onnx and scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import Classifier

ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "torchvision", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "cnn_train", "cnn_export")
SCRIPT = f"""
import importlib.util, json, sys
from cnn_infer import Classifier, evaluate, verify
found = [name for name in {ABSENT!r} if importlib.util.find_spec(name)]
with Classifier(sys.argv[1]) as classifier:
    label = classifier.predict(sys.argv[2] + "/red/a.png").label
    report = evaluate(classifier, [sys.argv[2]])
    passed = all(replay.passed for replay in verify(classifier))
loaded = [name for name in {ABSENT!r} if name in sys.modules]
print(json.dumps([found, loaded, label, report.accuracy, passed, sys.modules["cnn_infer"].__file__]))
"""

SHORT = (
    "from cnn_infer.proof import side_by_side; side_by_side.SECONDS = 0\nfrom cnn_infer.__main__ import main; main()"
)
"""The command with a short measurement."""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a virtual environment with cnn-infer[cpu] and its dependencies."""
    if not (ROOT / "infer" / "pyproject.toml").exists():
        pytest.skip("not in a checkout")
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    made = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT / "infer"], capture_output=True, text=True, check=False
    )
    if made.returncode and ("Connection" in made.stderr or "No matching distribution" in made.stderr):
        pytest.skip("the build tools are not installed, and the registry cannot be reached")
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("cnn_infer-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith("cnn_infer") for name in names)
    assert {"cnn_infer/schema/spec.schema.json", "cnn_infer/page/templates/run.html.jinja"} <= {*names}
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run(
        [*pip, "--python", python, "install", f"cnn-infer[cpu] @ {wheel.as_uri()}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode and "Connection" in installed.stderr:
        pytest.skip("the registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return folder / "venv"


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    for name, colour in {"red": (220, 10, 10), "blue": (10, 10, 220)}.items():
        picture(tmp_path / "in" / name / "a.png", colour)
    return tmp_path / "in"


def test_python_predicts_evaluates_and_verifies(bare: Path, folder: Path, models: Path) -> None:
    text = run(bare / "bin" / "python", "-c", SCRIPT, models / "rgb.onnx", folder, cwd=folder)
    found, loaded, label, accuracy, passed, where = json.loads(text)
    assert (found, loaded) == ([], [])
    assert (label, accuracy, passed) == ("red", 1.0, True)
    assert where.startswith(str(bare))


def test_the_command_predicts_evaluates_and_verifies(bare: Path, folder: Path, models: Path) -> None:
    command = (bare / "bin" / "cnn-infer", folder, "--model", models / "rgb.onnx", "--verify")
    rows = run(*command, "--format", "csv", "--report", "report.json", cwd=folder.parent).splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [
        [str(folder / "blue" / "a.png"), "blue", "2"],
        [str(folder / "red" / "a.png"), "red", "0"],
    ]
    assert json.loads((folder.parent / "report.json").read_text())["accuracy"] == 1.0


def test_the_command_proves_and_judges_a_device(
    bare: Path, tmp_path: Path, models: Path, rgb: Classifier, with_metadata: Callable[[str, str, str], bytes]
) -> None:
    """A certificate with --verify, one with --judge on two files of one export, and the fleet of both."""
    spec = json.loads(rgb.spec.to_json())
    proof = {"test": {"flips": 0, "accuracy_int8": 0.9}, "verdict": {"good_enough": True, "reason": ""}}
    spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
    (tmp_path / "model.onnx").write_bytes((models / "rgb.onnx").read_bytes())
    (tmp_path / "model.int8.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec)))
    command = bare / "bin" / "cnn-infer"
    verify = ("--verify", "--model", "model.onnx", "--certificate")
    run(command, *verify, "a.json", cwd=tmp_path)
    short = (bare / "bin" / "python", "-c", SHORT, "--judge", "model.onnx", "model.int8.onnx", "--format", "jsonl")
    judged = json.loads(run(*short, "--certificate", "b.json", cwd=tmp_path))
    assert Path(judged["ship"]).name in ("model.onnx", "model.int8.onnx")
    certificates = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    assert [certificate["passed"] for certificate in certificates] == [True, True]
    assert certificates[1]["judgement"]["ship"] == judged["ship"]
    assert "a.json" in run(command, "--fleet", "a.json", "b.json", cwd=tmp_path)
