"""benchmarks/processes.py ends what it started."""

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HANGS_AFTER = 60
"""Seconds after which the test fails, less than the started process sleeps."""


def test_an_interrupted_command_is_ended_with_the_processes_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    sleeps = ["sh", "-c", f"sleep {2 * HANGS_AFTER} & touch {started}; wait"]
    code = f"""
import os, pathlib, processes, signal, threading, time
def interrupt():
    while not pathlib.Path({str(started)!r}).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
processes.run_within({sleeps!r}, {2 * HANGS_AFTER})
"""
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    # sleep inherits the pipe of the output: it is at its end when no process has it open
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=HANGS_AFTER
    )
    assert "KeyboardInterrupt" in done.stderr


def test_a_command_that_takes_too_long_is_ended() -> None:
    code = f"import processes; processes.run_within(['sleep', '{2 * HANGS_AFTER}'], 0.01)"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=HANGS_AFTER
    )
    assert "TimeoutExpired" in done.stderr


def test_the_exit_code_of_a_command_is_returned() -> None:
    code = "import processes, sys; print(processes.run_within([sys.executable, '-c', 'exit(3)'], 60))"
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
