"""Training over nodes: two torchrun agents on this machine, of which one is lost and joins again."""

import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cnn_infer.run_files import LOCK
from cnn_train import Run
from cnn_train.distributed import RESTARTED
from cnn_train.recipe.fit import learning_rate_factor
from filelock import FileLock

EPOCHS, BATCH = 8, 96
FLAGS = ("digits", "--model", "nano", "--epochs", str(EPOCHS), "--batch-size", str(BATCH), "--device", "cpu")
FLAGS += ("--precision", "fp32")

# torchrun with its own options, but its process is a fork, which needs no imports. A main process stops before the
# checkpoint of its second epoch: with two nodes until one is lost, alone until torchrun ends it because a node joins.
AGENT = """
import os, sys, time
from cnn_train.__main__ import main
from torch.distributed import run
from torch.distributed.launcher.api import elastic_launch
saved = 0
def pace(event, arguments):
    global saved
    if event == "os.rename" and str(arguments[1]).endswith("checkpoint.pt"):
        saved += 1
        alone = os.environ["WORLD_SIZE"] == "1"  # only a new training also saves a checkpoint before its first epoch
        while saved == 2 if alone else saved == 3 and not os.path.exists("lost"):
            time.sleep(0.05)
def train():
    sys.addaudithook(pace)
    sys.argv = ["cnn-train", *arguments.training_script_args]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
arguments = run.parse_args(sys.argv[1:])
elastic_launch(run.config_from_args(arguments)[0], train)()
"""

# Two processes of one training without torchrun, each in a folder of its own, as nodes without a shared disk
PAIR = """
import os, socket, sys
from datetime import timedelta
from cnn_train import distributed
from cnn_train.__main__ import main
from cnn_train.run import job
job.SEEN_WITHIN = 0.5
distributed.NODES_TIMEOUT = timedelta(minutes=2)  # where one waits for what the other does not do
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


def kill(agent: Any) -> None:
    """Kill an agent of torchrun and what it started, as a node that is lost."""
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    for pid in map(int, children):
        os.kill(pid, signal.SIGKILL)
    agent.kill()


def epochs(text: str) -> list[int]:
    """The epochs that were printed."""
    return [int(number) for number in re.findall(rf"^epoch +(\d+) of {EPOCHS},", text, re.M)]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def agents(fork: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start torchrun on a node."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ["--nnodes", "1:2", "--nproc-per-node", 1, "--max-restarts", 3, "--monitor-interval", 0.1]
    options += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "job"]
    options += ["--start-method", "fork", "--rdzv-conf"]
    rendezvous = "last_call_timeout=1,keep_alive_interval=1,keep_alive_max_attempt=5"
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    begun: list[Any] = []

    def begin(*, host: bool = False) -> Any:
        command = (*options, f"is_host={int(host)},{rendezvous}", "-m", "cnn_train", *FLAGS)
        begun.append(fork(tmp_path, "train", *command, environment=environment, code=AGENT))
        return begun[-1]

    yield begin
    for agent in begun:
        if Path(f"/proc/{agent.pid}").exists():
            kill(agent)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_node_that_is_lost_joins_again(agents: Callable[..., Any], tmp_path: Path) -> None:
    first, second = agents(host=True), agents()
    until(lambda: epochs(first.said() + second.said()))
    kill(second)
    (tmp_path / "lost").touch()
    (run,) = (tmp_path / "runs").iterdir()
    until(lambda: epochs(first.said().partition("as before")[2]))
    assert first.said().splitlines().count(f"cnn-train: {RESTARTED}") == 1
    again = agents()
    assert (first.wait(), again.wait()) == (0, 0), first.said() + again.said()
    assert [*(tmp_path / "runs").iterdir()] == [run]
    found = Run.open(run)
    assert found.report["processes"] == 2
    assert found.report["test"]["accuracy"] > 0.9
    assert [epoch.epoch for epoch in found.epochs] == [*range(1, EPOCHS + 1)]
    printed = epochs(first.said() + second.said() + again.said())
    assert len({*printed}) == len(printed)  # no epoch was trained again after its checkpoint
    steps = -(-found.epochs[0].pictures // BATCH)
    rates = [learning_rate_factor((number + 1) * steps - 1, EPOCHS * steps) for number in range(EPOCHS)]
    assert [epoch.lr for epoch in found.epochs] == pytest.approx([found.config.lr * rate for rate in rates])
    assert not re.search("^Traceback", first.said() + again.said(), re.M)  # torchrun prints one inside its log lines


@pytest.fixture
def pair(fork: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[int, list[list[str]]]]:
    """Train in two processes in folders of their own, for an epoch. Returns the exit code and the lines of each."""

    def call(*arguments: object) -> tuple[int, list[list[str]]]:
        folders = [tmp_path / "node0", tmp_path / "node1"]
        for folder in folders:
            folder.mkdir(exist_ok=True)
        environment = {**os.environ, **TWO_NODES, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        code = fork(tmp_path, "train", *arguments, "--epochs", 1, environment=environment, code=PAIR).wait()
        lines = [(folder / "errors.txt").read_text().splitlines() for folder in folders]
        assert not any("Traceback" in line for line in lines[0] + lines[1])
        return code, lines

    return call


@pytest.fixture
def errors(pair: Callable[..., tuple[int, list[list[str]]]]) -> Callable[..., list[str]]:
    """As ``pair``, for a training that is refused. Returns the last line of each, without the command's name."""

    def call(*arguments: object) -> list[str]:
        code, lines = pair(*arguments, "--model", "nano")
        assert code == 2
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


def test_features_are_in_the_cache_of_each_node(
    pair: Callable[..., tuple[int, list[list[str]]]], photos: Path, tmp_path: Path
) -> None:
    flags = (photos, "--model", "lite0", "--pretrained", "--size", 32, "--device", "cpu", "--precision", "fp32")
    flags += ("--out", tmp_path / "run", "--cache", "cache")  # node0/cache, node1/cache
    assert pair(*flags)[0] == 0

    def features(node: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / node / "cache").rglob("features-*.npy")}

    computed = features("node0")
    assert len(computed) == 2  # train, val
    assert features("node1") == computed
    whole = json.loads((tmp_path / "run" / "report.json").read_text())
    lost = sorted((tmp_path / "node1" / "cache").rglob("features-*.npy"))[0]
    lost.unlink()
    assert pair(*flags[:-4], "--out", tmp_path / "again", "--cache", "cache")[0] == 0  # all compute what one lacks
    assert features("node1") == computed
    assert json.loads((tmp_path / "again" / "report.json").read_text())["test"] == whole["test"]


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


def test_a_job_that_resumes_waits_for_the_lock_of_its_lost_process(
    job: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cnn_train.training.WAIT_OF_A_JOB", 0.1)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / LOCK):
        for environment, lines in (("job", 2), ("none", 1)):
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", environment)
            code, text = job("--resume", "--out", "run")
            assert code == 2
            assert len(text.splitlines()) == lines
            assert ("another cnn-train uses run: waiting up to 0.1 seconds until it ends" in text) is (lines == 2)
            assert text.splitlines()[-1].startswith("cnn-train: another cnn-train uses run: wait for it")


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
