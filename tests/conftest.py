"""Process settings for all tests, and cnn-train and cnn-export without their seconds of imports."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import pytest

# Background jobs of a shell ignore Ctrl-C, and child processes inherit that; some tests interrupt child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The tests run in two processes, and weights are compared bit for bit: the number of threads must not follow the load.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Failing writes behave differently with buffered output, which is the default: test that.
os.environ.pop("PYTHONUNBUFFERED", None)

LONGEST = (
    "documentation/test_pages.py",
    "end_to_end/test_three_commands.py",
    "notebooks/test_walkthrough.py",
    "end_to_end/test_processors.py",
    "train/test_distributed.py",
    "train/test_nodes.py",
    "train/run/test_survival.py",
    "end_to_end/test_photographs.py",
    "train/test_sharing.py",
    "end_to_end/test_folders.py",
    "export/int8/test_search.py",
    "infer/command/test_resume.py",
    "benchmarks/test_train.py",
    "export/int8/test_report.py",
    "infer/test_denied.py",
    "infer/cluster/test_cluster.py",
)
"""The files of more than 15 seconds, the longest first. They start first, so that two processes end together."""

IMPORTED = ("cnn_train.cli", "cnn_train.training", "cnn_export.cli", "cnn_export.exporting", "cnn_export.explain")
IMPORTED += ("sklearn.datasets", "torch.onnx._internal.exporter._compat")
"""What a training and an export import, also while they run: the digits, PyTorch's exporter."""


CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({server!r})
    order = dict(code={code!r}, arguments=[{name!r}, *sys.argv[1:]], folder=os.getcwd(), environment=dict(os.environ))
    socket.send_fds(server, [json.dumps(order).encode() + b"\\n"], [0, 1, 2])
    sys.exit(int(server.makefile().read().split()[1]))
"""
"""A script that stands for a command: a forked process gets its arguments, folder, environment and streams."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first. ``--no-loadscope-reorder`` lets ``--dist loadfile`` keep this order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


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


def code_of(name: str) -> str:
    return f"from cnn_{name}.__main__ import main; main()"


@pytest.fixture(scope="session")
def fork_server() -> Iterator[Path]:
    """The socket of a process that has imported PyTorch and forks, so no test waits for imports."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "socket")  # not in the folders of pytest: paths of sockets must be short
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(path), *IMPORTED],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield path
            process.kill()


@pytest.fixture(scope="session")
def fork(fork_server: Path) -> Callable[..., Forked]:
    """Start cnn-train or cnn-export in a folder without delay: ``fork(folder, "train", "--epochs", 1)``.

    All is as in the command's own process but the imports: file descriptors, signals, environment variables
    (``environment``, or those of the tests), exit code. ``code`` runs in place of the command.
    """
    numbers = count()

    def begin(
        folder: Path, name: str, *arguments: object, environment: dict[str, str] | None = None, code: str = ""
    ) -> Forked:
        order = {
            "code": code or code_of(name),
            "arguments": [f"cnn-{name}", *map(str, arguments)],
            "folder": str(folder),
            "environment": dict(os.environ if environment is None else environment),
        }
        stdout, stderr = (fork_server.with_name(f"{next(numbers)}.txt") for _ in range(2))
        with (
            socket.socket(socket.AF_UNIX) as server,
            Path(os.devnull).open() as nothing,
            stdout.open("w") as first,
            stderr.open("w") as second,
        ):
            server.connect(str(fork_server))
            streams = [stream.fileno() for stream in (nothing, first, second)]
            socket.send_fds(server, [json.dumps(order).encode() + b"\n"], streams)
            answers = server.makefile()
        return Forked(int(answers.readline()), stdout, stderr, answers)

    return begin


@pytest.fixture(scope="session")
def forking_scripts(fork_server: Path) -> Path:
    """A folder with scripts cnn-train and cnn-export that run the command in a forked process."""
    folder = fork_server.with_name("bin")
    folder.mkdir()
    for name in ("train", "export"):
        script = folder / f"cnn-{name}"
        text = CLIENT.format(server=str(fork_server), code=code_of(name), name=script.name)
        script.write_text(f"#!{sys.executable} -ES\n{text}")
        script.chmod(0o755)
    return folder
