"""Process settings for all tests, and cnn-train and cnn-export without their seconds of imports."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import pytest

# Background jobs of a shell ignore Ctrl-C, and child processes inherit that; some tests interrupt child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests run in two processes, and weights are compared bit for bit: the number of threads must not follow the load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Failing writes behave differently with buffered output, which is the default: test that.
os.environ.pop("PYTHONUNBUFFERED", None)

IMPORTED = ("cnn_train.cli", "cnn_train.training", "cnn_export.cli", "cnn_export.exporting", "cnn_export.explain")
"""All that a training and an export import."""


@dataclass(frozen=True)
class Forked:
    """A running command in a forked process."""

    pid: int
    stdout: Path
    stderr: Path
    answers: IO[str]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        """Its exit code."""
        return int(self.answers.readline())

    def said(self) -> str:
        """What it has written to standard error."""
        return self.stderr.read_text()


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Forked]]:
    """Start cnn-train or cnn-export in a folder: ``fork(folder, "train", "--epochs", 1)``. One at a time.

    A process that has imported PyTorch forks, so no test waits for its imports. All else is as in the command's own
    process: file descriptors, signals, environment variables (``environment``, or those of the tests), exit code.
    """
    folder = tmp_path_factory.mktemp("forked")
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py")), *IMPORTED],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        numbers = count()

        def begin(place: Path, name: str, *arguments: object, environment: dict[str, str] | None = None) -> Forked:
            assert process.stdin is not None
            assert process.stdout is not None
            stdout, stderr = (folder / f"{next(numbers)}.txt" for _ in range(2))
            order = {
                "entry": f"cnn_{name}.__main__:main",
                "arguments": [str(argument) for argument in arguments],
                "folder": str(place),
                "environment": dict(os.environ if environment is None else environment),
                "stdout": str(stdout),
                "stderr": str(stderr),
            }
            print(json.dumps(order), file=process.stdin, flush=True)
            return Forked(int(process.stdout.readline()), stdout, stderr, process.stdout)

        yield begin
