"""Each committed result names the command that measured it, which the script takes, and no path of the machine."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
MODEL = ROOT / "tests" / "infer" / "models" / "rgb.onnx"
LOCAL = re.compile(r"(^|[\s\"'=:])(/|~|\.\./|[A-Z]:\\)")
"""An absolute path, or one that leads out of the repository."""


HELP = """
import contextlib, io, json, runpy, sys
found = {}
for script in sys.argv[1:]:
    sys.argv, printed = [script, "--help"], io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    found[script] = printed.getvalue()
json.dump(found, sys.stdout)
"""
"""Prints what scripts print with --help. One process imports PyTorch for all."""


def command_of(file: Path) -> list[str]:
    return shlex.split(json.loads(file.read_text(encoding="utf-8"))["command"])


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The options that the usage line of each script with a committed result names."""
    scripts = sorted({command_of(file)[1] for file in RESULTS})
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, "-c", HELP, *scripts]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    usages = {script: text.split("\n\n")[0] for script, text in json.loads(done.stdout).items()}
    return {script: set(re.findall(r"--[a-z][a-z0-9-]*", usage)) for script, usage in usages.items()}


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_the_script_knows_every_option_of_the_command(file: Path, flags: dict[str, set[str]]) -> None:
    _, script, *arguments = command_of(file)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments  # after it: options of cnn-train
    assert {word for word in own if word.startswith("--")} <= flags[script]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_names_its_command_and_no_local_path(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    command = command_of(file)
    assert command[0] == "python"
    assert (ROOT / command[1]).is_file()
    assert not [line for line in text.splitlines() if LOCAL.search(line)]


def test_a_script_writes_its_command_without_local_paths(tmp_path: Path) -> None:
    script, output = str(ROOT / "benchmarks" / "overhead.py"), tmp_path / "overhead.json"
    command = [sys.executable, script, str(MODEL), "--rounds", "20", "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(output.read_text())
    assert found["command"] == "python benchmarks/overhead.py MODEL --rounds 20"
    assert found["model"] == "models/rgb.onnx"
    assert not LOCAL.search(output.read_text())


def test_the_command_of_a_measurement_from_object_storage_has_its_options(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    options = ["--pictures", "2", "--delay", "1", "--rounds", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "storage.py"), str(MODEL), str(tmp_path), *options]
    subprocess.run([*command, "--output", str(tmp_path / "storage.json")], check=True, capture_output=True)
    expected = "python benchmarks/storage.py MODEL PICTURES --pictures 2 --delay 1.0 --rounds 1"
    assert json.loads((tmp_path / "storage.json").read_text())["command"] == expected
