"""Asking a script for help starts nothing and writes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["demo", "tables", "split_checks", "run_in_runtime"])
def test_help_only_prints(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name}.py")
    assert list(tmp_path.iterdir()) == []


def test_missing_arguments_are_two_lines() -> None:
    command = [sys.executable, str(BENCHMARKS / "run_in_runtime.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1].endswith("error: the following arguments are required: model, folder")
