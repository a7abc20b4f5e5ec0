"""Bad input ends a script with one line, as it ends the commands."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODEL = str(ROOT / "tests" / "infer" / "models" / "rgb.onnx")


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("overhead.py", ["missing.onnx"]),
        ("latency.py", ["missing.onnx"]),
        ("scaled_decoding.py", [MODEL, "missing"]),
        ("storage.py", [MODEL, "missing"]),
        ("drift.py", ["missing=digits"]),
        ("check.py", ["missing"]),
        ("int8.py", ["missing"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_line(script: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: ")
    assert "missing" in line
