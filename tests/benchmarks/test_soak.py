"""The soak run on a few seconds: it passes without a fault, and it reports planted faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")


def soak(folder: Path, seconds: int, script: Path = SCRIPT, code: int = 0) -> str:
    """Run the script in a folder and return what it prints."""
    command = [sys.executable, str(script), "--seconds", str(seconds), "--allowed", "20", "--output", "soak.json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_answers_stay_the_same_and_nothing_stays_open(tmp_path: Path) -> None:
    assert " from 4 threads: 0 wrong, 0 files stayed open, " in soak(tmp_path, seconds=3)
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["calls"] > 0
    assert found["pictures"] > 400
    assert 50 < found["unreadable"] < found["pictures"] - 50
    assert found["seen"][0]["threads"] > 4


@pytest.mark.parametrize(
    ("planted", "printed"),
    [
        ("    if random.random() < 0.01:\n        return 'planted'\n", " wrong, 0 files stayed open, "),
        ("    threading.active_count() > 4 and len(LEAK) < 50 and LEAK.append(open(os.devnull))\n", "0 wrong, "),
    ],
    ids=["a wrong answer", "an open file"],
)
def test_a_planted_fault_is_reported(tmp_path: Path, planted: str, printed: str) -> None:
    place = '    """The prediction, or the text of the error."""\n'
    text = SCRIPT.read_text()
    assert place in text
    text = text.replace(place, place + planted).replace("DAMAGED = 200", "DAMAGED = 200\nLEAK = []")
    (tmp_path / "soak.py").write_text(text)
    out = soak(tmp_path, 1, tmp_path / "soak.py", code=1)
    assert printed in out
    assert " 0 wrong, 0 files" not in out
