"""Fuzzing: some thousand damaged inputs, and checks that the fuzzer finds planted faults.

benchmarks/fuzz.py runs any number of inputs.
"""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from multiprocessing import Value
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPT.parent)  # for its imports from the same folder
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("kind", "inputs"), [("pictures", 3000), ("specs", 5000), ("models", 100)])
def test_damaged_inputs_raise_only_our_errors(tmp_path: Path, kind: str, inputs: int) -> None:
    command = [sys.executable, str(SCRIPT), kind, "--inputs", str(inputs), "--keep", "crashes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{inputs:,} {kind} in " in done.stdout
    assert ": 0 failed" in done.stdout


def test_inputs_that_an_earlier_run_saved_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "crashes").mkdir()
    (tmp_path / "crashes" / "0123456789abcdef").write_bytes(b"of an earlier run")
    command = [sys.executable, str(SCRIPT), "specs", "--inputs", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": 0 failed" in done.stdout


@pytest.mark.parametrize("kind", ["pictures", "specs", "models"])
def test_inputs_that_once_failed_pass(tmp_path: Path, kind: str) -> None:
    corpus = Path(__file__).parent / "corpus" / kind
    command = [sys.executable, str(SCRIPT), kind, "--replay", str(corpus), "--output", "found.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["findings"] == 0
    assert found["inputs"] == len(list(corpus.iterdir())) > 2


@pytest.mark.parametrize("kind", ["pictures", "specs"])
def test_the_inputs_differ_and_some_are_valid(harness: ModuleType, kind: str) -> None:
    """Inputs that are all refused at the first byte would test nothing."""
    make, attempt = harness.KINDS[kind]
    seeds = make()
    inputs = [harness.mutated(random.Random(number), seeds) for number in range(400)]
    assert len(set(inputs)) > 380
    good = 0
    for data in inputs:
        try:
            attempt(data)
            good += 1
        except harness.EdgeCNNError:
            pass
    assert 0.02 < good / len(inputs) < 0.9


def raises(data: bytes) -> None:
    """Fail on some inputs: the planted fault."""
    if len(data) % 7 == 0:
        raise IndexError("planted")


def test_a_planted_exception_is_found(
    harness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(harness.KINDS, "specs", (harness.spec_seeds, raises))
    counts, lines = [], []
    for _ in range(2):
        saved = Value("q", 0)
        harness.work("specs", None, 0, 50, tmp_path / "kept", Value("q", 0), Value("d", 0.0), saved)
        counts.append(saved.value)
        lines.append(capfd.readouterr().out.splitlines())
    assert list((tmp_path / "kept").iterdir())
    assert all("IndexError: planted" in line for line in lines[0])
    assert lines[0] == lines[1]
    assert counts == [len(lines[0])] * 2  # also inputs that an earlier run saved


@pytest.mark.parametrize("planted", ["ends_the_process", "is_slow", "hangs"])
def test_a_planted_crash_or_hang_is_found_and_the_run_continues(tmp_path: Path, planted: str) -> None:
    """Worker processes import the script again, so the fault is planted in a copy of it."""
    body = {
        "ends_the_process": "import os; os._exit(11)",
        "is_slow": "while True: pass",
        "hangs": "import time; time.sleep(60)",
    }[planted]
    text = (
        SCRIPT.read_text()
        .replace("\nSECONDS = 5.0", "\nSECONDS = 0.5")
        .replace("STUCK_SECONDS = 120.0", "STUCK_SECONDS = 1.0")
    )
    text = text.replace("Path(__file__).parent.parent", f"Path({str(SCRIPT.parent.parent)!r})")
    text = text.replace(
        '    """Parse a specification and write it again."""', f"    if len(data) % 400 == 0:\n        {body}"
    )
    (tmp_path / "fuzz.py").write_text(text)
    shutil.copy(SCRIPT.parent / "report.py", tmp_path)
    command = [sys.executable, "fuzz.py", "specs", "--inputs", "600"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ended the process with" in done.stdout
    assert "600 specs in " in done.stdout
    assert f": {done.stdout.count('ended the process with')} failed" in done.stdout
    kept = list((tmp_path / "crashes").iterdir())
    assert kept
    assert all(len(path.read_bytes()) % 400 == 0 for path in kept)
