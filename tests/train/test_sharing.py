"""Threads of a training beside other programs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cnn_train.sharing import Clock, threads_beside

pytestmark = pytest.mark.skipif(
    not Path("/proc/stat").exists() or (os.cpu_count() or 1) < 2, reason="needs Linux and two processors"
)

THREADS = """
import time, torch
from cnn_train.sharing import shared_threads
before = torch.get_num_threads()
with shared_threads(torch.device("cpu"), lambda threads, most: print("told", threads < most)) as adapt:
    end = time.perf_counter() + 4
    while time.perf_counter() < end:
        torch.ones(1 << 16).sum()
        adapt()
    inside = torch.get_num_threads()
print("inside", inside < before, "after", torch.get_num_threads() == before)
"""


@pytest.fixture
def busy_neighbour() -> Iterator[None]:
    """A program that keeps a processor busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


def run(code: str, **environment: str) -> str:
    """Run code in a process whose number of threads is not fixed, and return what it prints."""
    kept = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | environment
    result = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    return result.stdout


@pytest.mark.parametrize(
    ("busy", "own", "processors", "most", "threads"),
    [
        (2.0, 2.0, 2, 2, 2),  # alone
        (2.0, 1.0, 2, 2, 1),  # beside a training of the same kind
        (2.0, 0.66, 2, 2, 1),  # beside two of them: never less than 1
        (1.3, 1.0, 2, 2, 2),  # beside a light load
        (1.0, 1.0, 2, 2, 2),  # on one thread, after the neighbour has ended
        (8.0, 4.0, 8, 8, 4),
        (40.0, 2.0, 64, 2, 2),  # a container with a quota of 2 on a busy server
    ],
)
def test_there_is_one_thread_for_each_processor_that_is_left(
    busy: float, own: float, processors: int, most: int, threads: int
) -> None:
    start, end = Clock(10.0, 500.0, 5.0), Clock(11.0, 500.0 + busy, 5.0 + own)
    assert threads_beside(start, end, processors, most) == threads


def test_beside_a_busy_program_there_are_fewer_threads(busy_neighbour: None) -> None:
    assert run(THREADS) == "told True\ninside True after True\n"


def test_a_fixed_number_of_threads_stays(busy_neighbour: None) -> None:
    assert run(THREADS, OMP_NUM_THREADS="2") == "inside False after True\n"


def test_a_training_beside_a_busy_program_says_that_it_uses_fewer_threads(busy_neighbour: None, tmp_path: Path) -> None:
    code = f"from cnn_train import train; run = train('digits', epochs=4, out={str(tmp_path / 'run')!r})\n"
    warnings = run(code + "print(run.report['warnings'])")
    assert "other programs use the processor: the training uses 1 of" in warnings
