"""A training that ends early loses only its current epoch: kills, Ctrl-C, divergence, a full disk."""

import errno
import json
import os
import random
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cnn_train import DivergedError, RunError
from cnn_train.run.checkpoint import CHECKPOINT_FORMAT
from cnn_train.run.lock import explain_failures

EPOCHS = 14
FLAGS = ("digits", "--model", "nano", "--epochs", str(EPOCHS), "--batch-size", "128", "--augment", "crop")
FLAGS += ("--dropout", "0.1", "--balance", "--precision", "fp32", "--seed", "3", "--out", "run")
TIMES = ("images_per_second", "seconds", "session_seconds", "seconds_with_preparation")
CONTINUE = re.compile(r"; (\d+) of \d+ epochs are kept in run/checkpoint\.pt: cnn-train (--resume --out run.*)$")


@pytest.fixture(scope="module")
def whole(forked: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    assert forked(folder, *FLAGS).wait() == 0
    return folder / "run"


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["card", "processor"],
)
def test_out_of_memory_is_one_line(tmp_path: Path, error: RuntimeError) -> None:
    with pytest.raises(RunError, match=r"^out of memory: .* a smaller --batch-size"), explain_failures(tmp_path):
        raise error


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "free some space; "), (errno.EACCES, "")])
def test_only_a_full_disk_needs_space(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(RunError) as caught, explain_failures(tmp_path):
        raise OSError(number, "it failed", "file")
    assert str(caught.value).startswith(f"cannot write file: it failed: {advice}nothing is kept in ")


def epochs_in(run: Path) -> int:
    try:
        return len((run / "metrics.jsonl").read_text().splitlines())
    except FileNotFoundError:
        return 0


def wait_until(reached: Callable[[], bool], interval: float = 0.005) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(interval)


def assert_same(first: Path, second: Path) -> None:
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
    for name in ("model.safetensors", "config.toml"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for name in ("spec.json", "report.json", "metrics.jsonl"):
        pair = [
            [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in text]
            for text in (
                path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
                for path in (first / name, second / name)
            )
        ]
        assert pair[0] == pair[1], name


# kills


def kill_in_the_write(process: Any, run: Path, file: str) -> bool:
    """Send SIGKILL while ``file`` is being written. Return whether it hit: a partial file is then left."""

    def partial() -> bool:
        return any(name.startswith(f".{file}.") for name in (os.listdir(run) if run.exists() else ()))

    wait_until(partial, interval=0)  # a write takes about a millisecond
    process.kill()
    return partial()


def test_ten_kills_at_random_moments_leave_the_weights_of_one_training(
    whole: Path, forked: Callable[..., Any], tmp_path: Path
) -> None:
    seed = 7
    choice = random.Random(seed)
    run, hits, begun = tmp_path / "run", 0, 0
    for _ in range(10):
        kept = (run / "checkpoint.pt").exists()
        begun += kept
        process = forked(tmp_path, *(("--resume", "--out", "run") if kept else (*FLAGS, "--overwrite")))
        if choice.random() < 0.5:
            file = choice.choice(["checkpoint.pt", "metrics.jsonl"])
            epoch = epochs_in(run) + choice.randrange(2)
            wait_until(lambda least=epoch: epochs_in(run) >= least)
            hit = kill_in_the_write(process, run, file)
            hits += hit and file == "checkpoint.pt"
            print(f"seed {seed}: killed in the write of {file}, {hit=}, after {epochs_in(run)} epochs")
        else:
            seconds = choice.uniform(0, 0.6)
            time.sleep(seconds)
            process.kill()
            print(f"seed {seed}: killed after {seconds:.3f} s, after {epochs_in(run)} epochs")
    assert hits, "no kill hit the checkpoint's write"
    assert begun > 5
    assert epochs_in(run) < EPOCHS
    process = forked(tmp_path, "--resume", "--out", "run")
    wait_until((run / "curves.png").exists)  # all epochs are done
    process.kill()
    process = forked(tmp_path, "--resume", "--out", "run")
    assert process.wait() == 0, process.said()
    assert_same(run, whole)


def test_a_kill_between_the_checkpoint_and_the_metrics_costs_no_line(
    run: Path, command: Callable[..., tuple[int, str]]
) -> None:
    (run / "report.json").unlink()
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert command("--resume", "--out", str(run))[0] == 0
    assert (run / "metrics.jsonl").read_text() == text


def test_after_an_interrupt_a_training_resumes_to_the_same_weights(
    whole: Path, forked: Callable[..., Any], tmp_path: Path
) -> None:
    process = forked(tmp_path, *FLAGS[:-1], "runs/cut")
    run = tmp_path / "runs" / "cut"
    wait_until(lambda: epochs_in(run) >= 1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    last = process.said().splitlines()[-1]
    assert last == (
        f"cnn-train: interrupted; {epochs_in(run)} of {EPOCHS} epochs are kept in runs/cut/checkpoint.pt: "
        "cnn-train --resume --out runs/cut"
    )
    assert process.said().count("cnn-train: ") == 1
    assert not (run / "report.json").exists()
    process = forked(tmp_path, "--resume")  # finds the newest unfinished one
    assert process.wait() == 0, process.said()
    assert_same(run, whole)
    reports = [json.loads((folder / "report.json").read_text()) for folder in (run, whole)]
    assert reports[0]["seconds_with_preparation"] is None  # the time between the sessions is unknown
    assert reports[1]["seconds_with_preparation"] > reports[1]["seconds"]


# divergence


@pytest.mark.parametrize(
    ("lower_rate", "advice"),
    [(True, r".*: cnn-train --resume --out \S+ --lr \S+"), (False, "start again with --overwrite")],
    ids=["may help", "cannot help"],
)
def test_a_lower_rate_is_proposed_only_if_it_may_help(run: Path, lower_rate: bool, advice: str) -> None:
    error = DivergedError("it diverged", lower_rate=lower_rate)
    message = f"^it diverged; {advice}$"
    with pytest.raises(DivergedError, match=message) as caught, explain_failures(run):
        raise error
    assert caught.value.lower_rate is lower_rate


def test_a_divergence_in_the_first_epoch(refused: Callable[..., str], tmp_path: Path) -> None:
    flags = ("--model", "nano", "--epochs", "2", "--precision", "fp32", "--batch-size", "128", "--out", "run")
    text = refused(*flags, "--optimizer", "sgd", "--lr", "1e6")
    assert re.search(r"the (validation )?loss is (nan|inf) at epoch 1, step \d+, learning rate \S+e\+05: lower ", text)
    found = CONTINUE.search(text)
    assert found is not None, text
    assert found.groups() == ("0", "--resume --out run --lr 1e+05")
    assert not (tmp_path / "run" / "report.json").exists()


def test_after_a_divergence_the_training_resumes_from_the_last_good_epoch(
    refused: Callable[..., str], command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    flags = ("--model", "nano", "--epochs", "10", "--precision", "fp32", "--batch-size", "128", "--out", "run")
    text = refused(*flags, "--optimizer", "sgd", "--lr", "50", "--weight-decay", "0.1")
    found = CONTINUE.search(text)
    assert found is not None, text
    kept = int(found[1])
    assert 1 <= kept < 10
    assert f" at epoch {kept + 1}, step " in text
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert len(before.splitlines()) == kept
    code, text = command(*found[2].split())  # the command in the message
    assert code == 0, text
    assert f"epoch {kept + 1:>3} of 10, 8 x 8: " in text
    assert f"epoch {kept:>3} of 10, 8 x 8: " not in text
    assert (tmp_path / "run" / "metrics.jsonl").read_text().startswith(before)
    assert "lr = 5.0\n" in (tmp_path / "run" / "config.toml").read_text()


# a full disk


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    whole: Path, forked: Callable[..., Any], tmp_path: Path
) -> None:
    """A limit on the size of files, set after the second epoch, stands for the full disk."""
    process = forked(tmp_path, *FLAGS)
    wait_until(lambda: epochs_in(tmp_path / "run") >= 2)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    assert process.wait() == 2
    text = process.said()
    last = text.splitlines()[-1]
    assert "Traceback" not in text
    assert last.startswith("cnn-train: cannot write ")
    assert "run/checkpoint.pt: File too large: free some space; " in last
    found = CONTINUE.search(last)
    assert found is not None, last
    assert int(found[1]) == epochs_in(tmp_path / "run") >= 2
    assert not list((tmp_path / "run").glob(".*"))
    assert forked(tmp_path, *found[2].split()).wait() == 0
    assert_same(tmp_path / "run", whole)


# a run folder that is in use


@pytest.fixture
def busy(forked: Callable[..., Any], tmp_path: Path) -> Any:
    process = forked(tmp_path, *FLAGS)
    wait_until((tmp_path / "run" / "checkpoint.pt").exists)
    return process


def test_a_run_folder_in_use_is_refused_until_its_training_ends(
    busy: Any, refused: Callable[..., str], command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    os.kill(busy.pid, signal.SIGSTOP)  # so that it does not end meanwhile
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for arguments in (("--resume",), ("digits", "--overwrite"), ("digits",)):
        assert "another cnn-train uses run: wait for it" in refused(*arguments, "--out", "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    busy.kill()
    assert "leave out epochs" in refused("--resume", "--out", "run", "--epochs", "9")  # not: at work
    assert command("digits", "--model", "nano", "--epochs", "1", "--overwrite", "--out", "run")[0] == 0
    assert not (tmp_path / "run" / ".lock").exists()


# trainings that cannot resume


def test_a_checkpoint_of_another_version_is_refused(run: Path, refused: Callable[..., str]) -> None:
    (run / "report.json").unlink()
    document = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({**document, "format": 99}, run / "checkpoint.pt")
    text = refused("--resume", "--out", str(run))
    assert f"checkpoint.pt has format 99, this version reads {CHECKPOINT_FORMAT}: start again with --overwrite" in text


def test_another_data_set_is_refused(run: Path, photos: Path, refused: Callable[..., str]) -> None:
    (run / "report.json").unlink()
    text = refused(str(photos), "--resume", "--out", str(run))
    assert f"the data differs from the data that the training in {run} started with: restore it, or" in text
