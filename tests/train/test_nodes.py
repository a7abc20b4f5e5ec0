"""Training over nodes: two torchrun agents on this machine, of which one is lost and joins again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cnn_train import Run
from cnn_train.distributed import RESTARTED
from cnn_train.recipe.fit import learning_rate_factor

EPOCHS, BATCH = 12, 96
FLAGS = ("digits", "--model", "nano", "--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--device", "cpu")
FLAGS += ("--precision", "fp32")

# Python runs sitecustomize at its start. Two processes train slowly enough to be killed in the middle; one alone stops
# after its second epoch, until torchrun ends it because a node joins.
PACE = """
import os, sys, time
saved = 0
def pace(event, arguments):
    global saved
    if event == "os.rename" and str(arguments[1]).endswith("checkpoint.pt"):
        saved += 1
        time.sleep(60 if os.environ["WORLD_SIZE"] == "1" and saved == 2 else 0.1)
if "WORLD_SIZE" in os.environ:
    sys.addaudithook(pace)
"""

# Two processes of one training without torchrun, each in a folder of its own, as nodes without a shared disk
PAIR = """
import os, socket, sys
from cnn_train.__main__ import main
from cnn_train.run import job
job.SEEN_WITHIN = 0.5
with socket.socket() as free:
    free.bind(("localhost", 0))
    os.environ["MASTER_PORT"] = str(free.getsockname()[1])
rank = str(0 if os.fork() else 1)
os.chdir(f"node{rank}")
os.dup2(os.open("errors.txt", os.O_WRONLY | os.O_CREAT), 2)
for name in ("RANK", "GROUP_RANK"):
    os.environ[name] = rank
try:
    main()
finally:
    if rank == "0":
        os.wait()
"""
TWO_NODES = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
TWO_NODES |= {"MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "job", "OMP_NUM_THREADS": "1"}


class Agent:
    """torchrun on a node: it starts one process."""

    def __init__(self, folder: Path, name: str, port: int, *, host: bool) -> None:
        self.log = folder / f"{name}.log"
        found = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        rendezvous = f"is_host={int(host)},last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=5"
        options = ("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3", "--monitor-interval", "0.1")
        options += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job")
        options += ("--rdzv-conf", rendezvous)
        cores = sorted(os.sched_getaffinity(0))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *options, "-m", "cnn_train", *FLAGS],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": found, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
                stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, {cores[0] if host else cores[-1]}),
            )

    def kill(self) -> None:
        """Kill the agent and what it started, as a node that is lost."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


def epochs(*logs: Path) -> list[int]:
    """The epochs that were printed."""
    text = "\n".join(log.read_text() for log in logs)
    return [int(number) for number in re.findall(rf"^epoch +(\d+) of {EPOCHS},", text, re.M)]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    (tmp_path / "sitecustomize.py").write_text(PACE)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    begun: list[Agent] = []

    def begin(name: str, *, host: bool = False) -> Agent:
        begun.append(Agent(tmp_path, name, port, host=host))
        return begun[-1]

    yield begin
    for agent in begun:
        if agent.process.poll() is None:
            agent.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_node_that_is_lost_joins_again(agents: Callable[..., Agent], tmp_path: Path) -> None:
    first, second = agents("first", host=True), agents("second")
    until(lambda: len(epochs(first.log, second.log)) >= 2)
    second.kill()
    (run,) = (tmp_path / "runs").iterdir()
    together = epochs(first.log, second.log)
    until(lambda: (first.log.read_text().count("as before"), len(epochs(first.log))) >= (1, len(together) + 1))
    assert first.log.read_text().splitlines().count(f"cnn-train: {RESTARTED}") == 1
    again = agents("again")
    assert (first.process.wait(timeout=120), again.process.wait(timeout=120)) == (0, 0), (
        first.log.read_text() + again.log.read_text()
    )
    assert [*(tmp_path / "runs").iterdir()] == [run]
    found = Run.open(run)
    assert found.report["processes"] == 2
    assert found.report["test"]["accuracy"] > 0.9
    assert [epoch.epoch for epoch in found.epochs] == [*range(1, EPOCHS + 1)]
    printed = epochs(first.log, second.log, again.log)
    assert len({*printed}) == len(printed)  # no epoch was trained again after its checkpoint
    steps = -(-found.epochs[0].pictures // BATCH)
    rates = [learning_rate_factor((number + 1) * steps - 1, EPOCHS * steps) for number in range(EPOCHS)]
    assert [epoch.lr for epoch in found.epochs] == pytest.approx([found.config.lr * rate for rate in rates])
    assert "Traceback" not in first.log.read_text() + again.log.read_text()


@pytest.fixture
def errors(fork: Callable[..., Any], tmp_path: Path) -> Callable[..., list[str]]:
    """Train in two processes in folders of their own. Returns the last line of each, without the command's name."""

    def call(*arguments: object) -> list[str]:
        folders = [tmp_path / "node0", tmp_path / "node1"]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        environment = {**os.environ, **TWO_NODES, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        running = fork(
            tmp_path, "train", *arguments, "--model", "nano", "--epochs", 1, environment=environment, code=PAIR
        )
        assert running.wait() == 2
        lines = [(folder / "errors.txt").read_text().splitlines() for folder in folders]
        assert not any("Traceback" in line for line in lines[0] + lines[1])
        return [line[-1].removeprefix("cnn-train: ") for line in lines]

    return call


def test_nodes_without_a_shared_folder_are_told_so(errors: Callable[..., list[str]], tmp_path: Path) -> None:
    first, second = errors("digits", "--out", "run")
    assert first == second
    assert first.startswith("node 1 (")
    assert "cannot see the run folder run of the main process: pass an --out that all nodes share" in first
    assert not (tmp_path / "node1" / "run").exists()


def test_nodes_with_other_pictures_are_told_so(errors: Callable[..., list[str]], photos: Path, tmp_path: Path) -> None:
    for name in ("node0", "node1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photos").symlink_to(photos)
    fewer = tmp_path / "node1" / "photos"
    fewer.unlink()
    for folder in sorted(photos.iterdir()):
        (fewer / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:-1]:
            os.link(file, fewer / folder.name / file.name)
    first, second = errors("photos", "--out", tmp_path / "run")
    assert first == second
    assert first.startswith("the pictures of photos on node 1 (")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, command: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, str]]:
    """Run the command as torchrun starts it with one process."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    return lambda *more: command("digits", "--model", "nano", "--device", "cpu", *more)


def test_the_name_of_a_training_decides_what_its_command_does(
    job: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flags = ("--epochs", "1", "--test-pictures", "test")
    assert job(*flags)[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    out = ("--out", f"runs/{run.name}")
    whole = json.loads((run / "report.json").read_text())
    for more in ((), out):
        code, text = job(*flags, *more)
        assert code == 0
        assert text == f"the training in runs/{run.name} is finished: another --rdzv-id of torchrun starts a new one\n"
    code, text = job("--epochs", "2", *out)
    assert code == 2
    assert text == (
        f"cnn-train: the training in runs/{run.name} was started by this job, job, with other options "
        "(epochs, test_pictures): pass another --rdzv-id to torchrun\n"
    )
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "other")
    code, text = job(*flags, *out)
    assert code == 2
    assert f"runs/{run.name} is not empty: pass --overwrite to replace the run in it" in text
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    for name in ("report.json", "checkpoint.pt"):  # as if it was killed before its first epoch
        (run / name).unlink()
    assert job(*flags)[0] == 0
    assert json.loads((run / "report.json").read_text())["test"] == whole["test"]
    assert [*(tmp_path / "runs").iterdir()] == [run]


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "2"},
            "torchrun has no name for this training: pass --rdzv-id NAME to it, the same on all nodes, so that a "
            "restart finds the run folder",
        ),
        (
            {
                "TORCHELASTIC_RUN_ID": "job",
                "TORCHELASTIC_MAX_RESTARTS": "3",
                "TORCHELASTIC_USE_AGENT_STORE": "True",
            },
            "torchrun --max-restarts needs --rdzv-backend c10d, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its "
            "environment",
        ),
    ],
    ids=["without a name", "with the shared store"],
)
def test_a_launch_that_could_not_restart_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], line: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert refused("digits") == f"cnn-train: {line}"
