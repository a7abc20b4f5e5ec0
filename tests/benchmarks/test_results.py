"""Each committed result names the command that measured it, and no path of the machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
LOCAL = re.compile(r"(^|[\s\"'=:])(/|~|\.\./|[A-Z]:\\)")
"""An absolute path, or one that leads out of the repository."""


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_result_names_its_command_and_no_local_path(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    command = json.loads(text)["command"].split()
    assert command[0] == "python"
    assert (ROOT / command[1]).is_file()
    assert not [line for line in text.splitlines() if LOCAL.search(line)]


def test_a_script_writes_its_command_without_local_paths(tmp_path: Path) -> None:
    script, model = str(ROOT / "benchmarks" / "overhead.py"), ROOT / "tests" / "infer" / "models" / "rgb.onnx"
    output = tmp_path / "overhead.json"
    command = [sys.executable, script, str(model), "--rounds", "20", "--output", str(output)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(output.read_text())
    assert found["command"] == "python benchmarks/overhead.py MODEL --rounds 20"
    assert found["model"] == "models/rgb.onnx"
    assert not LOCAL.search(output.read_text())
