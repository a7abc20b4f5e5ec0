"""--tune: a study that can be interrupted, shared and used, and that never measures the test split."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import optuna
import pytest
from cnn_train import Run, RunError, TrainingInterruptedError, train, tuning
from cnn_train.study import BEST, FIRST, START_UP, STUDY
from cnn_train.tuning import _settings, tune

SHORT: dict[str, Any] = {"model": "nano", "epochs": 1, "device": "cpu"}
Command = Callable[..., tuple[int, str]]


def trials(folder: Path) -> list[str]:
    with sqlite3.connect(folder / STUDY) as database:
        return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY number")]


def test_the_best_settings_train_and_an_interrupted_study_continues(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("digits", "--model", "nano", "--epochs", "2", "--out", "study", "--tune")
    measured: list[int] = []
    monkeypatch.setattr("cnn_train.session.write_results", lambda *_: measured.append(1))  # it measures the test split
    code, text = command(*arguments, "1")
    assert code == 0, text
    assert "trial 0: loss " in text
    first = (tmp_path / "study" / BEST).read_text()

    def interrupted(**_: object) -> None:
        raise TrainingInterruptedError("Ctrl-C")

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train", interrupted)
        code, text = command(*arguments, "3")
    assert code == 130
    assert "interrupted in trial 1: the same command with --out study, without --overwrite, continues" in text
    assert trials(tmp_path / "study") == ["COMPLETE", "FAIL"]
    assert (tmp_path / "study" / BEST).read_text() == first
    code, text = command(*arguments, "2")
    assert code == 0, text
    assert "2 trials, 0 of them pruned" in text
    assert sorted(path.name for path in (tmp_path / "study").iterdir() if path.name[0] != ".") == [BEST, STUDY]
    assert not measured
    monkeypatch.undo()
    run = train(config=tmp_path / "study" / BEST, out=tmp_path / "run")
    assert (run.config.epochs, run.config.model) == (2, "nano")
    assert f"lr = {run.config.lr}" in (tmp_path / "study" / BEST).read_text()


def test_the_defaults_are_tried_after_an_interruption_of_their_trial(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**SHORT, "precision": "fp32"}
    for error in (TrainingInterruptedError("Ctrl-C"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "train", Mock(side_effect=error))
            with pytest.raises(TrainingInterruptedError, match=r"interrupted in trial \d: the same command"):
                tune("digits", trials=1, out=tmp_path / "study", **options)
    found = tune("digits", trials=1, out=tmp_path / "study", **options)
    assert trials(tmp_path / "study") == ["FAIL", "FAIL", "COMPLETE"]
    for name in ("lr", "weight_decay", "augment"):
        assert getattr(found, name) == getattr(finished.config, name)
    tune("digits", trials=2, out=tmp_path / "study", **options)  # not again
    study = optuna.load_study(study_name="cnn-train", storage=f"sqlite:///{tmp_path / 'study' / STUDY}")
    assert study.trials[-1].params["lr"] != 1.0 == study.trials[-2].params["lr"]


def wait_for_epochs(study: Path, least: int, trial: int = 0) -> None:
    end = time.monotonic() + 60
    while not any(len(file.read_text().splitlines()) >= least for file in study.glob(f"trial-{trial}/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.01)


LONG = ("digits", "--model", "nano", "--epochs", "900", "--out", "study", "--tune", "1")


def test_the_defaults_are_tried_again_after_their_trial_was_killed(forked: Callable[..., Any], tmp_path: Path) -> None:
    first = forked(tmp_path, *LONG)
    wait_for_epochs(tmp_path / "study", 1)
    beside = forked(tmp_path, *LONG)  # the defaults are at work
    wait_for_epochs(tmp_path / "study", 1, trial=1)
    first.kill()
    after = forked(tmp_path, *LONG)
    wait_for_epochs(tmp_path / "study", 1, trial=2)
    beside.kill()
    after.kill()
    assert trials(tmp_path / "study") == ["RUNNING"] * 3  # Optuna does not know
    study = optuna.load_study(study_name="cnn-train", storage=f"sqlite:///{tmp_path / 'study' / STUDY}")
    assert [FIRST in trial.user_attrs for trial in study.trials] == [True, False, True]


def test_an_interrupt_is_one_line_without_a_traceback(forked: Callable[..., Any], tmp_path: Path) -> None:
    process = forked(tmp_path, *LONG)
    wait_for_epochs(tmp_path / "study", 1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130, process.said()
    assert "Traceback" not in process.said()
    assert process.said().splitlines()[-1] == (
        "cnn-train: interrupted in trial 0: the same command with --out study, without --overwrite, continues"
    )
    assert process.said().count("interrupted") == 1


def test_a_full_disk_ends_the_search_without_advice_to_resume_a_removed_folder(
    forked: Callable[..., Any], tmp_path: Path
) -> None:
    """A limit on the size of files, larger than the study and smaller than a checkpoint, stands for the full disk."""
    process = forked(tmp_path, *LONG)
    wait_for_epochs(tmp_path / "study", 1)
    limit = 300_000
    assert (tmp_path / "study" / STUDY).stat().st_size < limit
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert process.wait() == 2
    assert "Traceback" not in process.said()
    line = process.said().splitlines()[-1]
    assert line.startswith("cnn-train: trial 0 ended: cannot write ")
    assert line.endswith(
        "File too large: free some space; the same command with --out study, without --overwrite, continues"
    )
    assert sorted(path.name for path in (tmp_path / "study").iterdir() if path.name[0] != ".") == [STUDY]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (("--precision", "fp16", "--device", "cpu"), "--precision fp16 needs --device cuda"),
        (("--model", "resnet1"), "unknown model 'resnet1'"),
        (("--model", "nano", "--pretrained"), "pretrained"),
        (("--teacher", "gone"), "--teacher: no such run folder: gone"),
        (("--teacher", "photos-run"), "the teacher photos-run has other classes than the data"),
    ],
)
def test_a_mistake_is_found_before_the_study_stores_its_options(
    refused: Callable[..., str], photos: Path, tmp_path: Path, wrong: tuple[str, ...], reason: str
) -> None:
    if "photos-run" in wrong:
        train(photos, size=16, out=tmp_path / "photos-run", **SHORT)
    assert reason in refused("digits", "--epochs", "1", "--tune", "1", "--out", "study", *wrong)
    assert not (tmp_path / "study").exists()


def test_the_name_of_the_folder_may_have_characters_of_urls(tmp_path: Path) -> None:
    study = tmp_path / "100% {sure}? ü#"
    assert tune("digits", trials=1, out=study, **SHORT).model == "nano"
    assert [path.name for path in tmp_path.iterdir()] == [study.name]
    assert trials(study) == ["COMPLETE"]


def damaged(study: Path, how: str) -> None:
    content = (study / STUDY).read_bytes()
    if how == "version":
        with sqlite3.connect(study / STUDY) as database:
            database.execute("UPDATE version_info SET library_version = '9.9.9'")
            database.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    else:
        (study / STUDY).write_bytes({"text": b"no database " * 99, "cut short": content[: len(content) // 2]}[how])


@pytest.mark.parametrize("how", ["text", "cut short", "version"])
def test_a_damaged_study_is_one_line(command: Command, refused: Callable[..., str], tmp_path: Path, how: str) -> None:
    arguments = ("digits", "--model", "nano", "--epochs", "1", "--tune", "1", "--out", "study")
    assert command(*arguments)[0] == 0
    damaged(tmp_path / "study", how)
    line = refused(*arguments)
    assert line.startswith("cnn-train: study/study.db cannot be used: ")
    assert line.endswith(": free some space, restore the file, or begin anew with --overwrite")
    assert command(*arguments, "--overwrite")[0] == 0


def test_a_study_that_another_process_has_locked_is_one_line(
    refused: Callable[..., str],
    command: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("digits", "--model", "nano", "--epochs", "1", "--tune", "1", "--out", "study")
    assert command(*arguments)[0] == 0
    monkeypatch.setattr("cnn_train.study.WAIT_FOR_DATABASE", 0.01)
    with sqlite3.connect(tmp_path / "study" / STUDY) as database:
        database.execute("BEGIN EXCLUSIVE")
        line = refused(*arguments)
        database.rollback()
    assert line == "cnn-train: study/study.db is locked: another process uses it: run the same command again"
    assert command(*arguments)[0] == 0


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write .*file: File exists: pass another --out"):
        tune("digits", trials=1, out=tmp_path / "file", **SHORT)


def test_each_network_starts_from_its_own_augmentation(finished: Run) -> None:
    start = finished.config
    without, cutout = ("crop",), ("crop", "cutout")
    starts = {"nano": replace(start, model="nano", augment=without), "small": replace(start, augment=cutout)}
    for name, augmentations in (("nano", ("crop", "zoom")), ("small", ("crop", "zoom", "cutout"))):
        trial = optuna.trial.FixedTrial({"model": name, "lr": 1.0, "weight_decay": 1.0, "augment": "zoom"})
        settings = _settings(trial, starts, {})  # type: ignore[arg-type]
        assert settings.augment == augmentations


def test_two_processes_share_a_study_and_bad_trials_are_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Run
) -> None:
    """Threads stand for the processes, and the measurements of a finished run for trainings."""
    both, values = threading.Barrier(2, timeout=20), iter(np.linspace(0.5, 5, 40))

    def fake(*, on_epoch: Callable[..., None], **_: object) -> None:
        factor = next(values)
        epochs = [vars(epoch) for epoch in finished.epochs]
        rows = [
            type(finished.epochs[0])(**{**e, "val_calibrated_loss": e["val_calibrated_loss"] * factor}) for e in epochs
        ]
        for number in range(1, 4):
            on_epoch(tuple(rows[:number]))

    def work() -> None:
        both.wait()
        tune("digits", trials=12, out=tmp_path / "study", **{**SHORT, "epochs": 3})

    monkeypatch.setattr(tuning, "train", fake)
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = trials(tmp_path / "study")
    assert 12 <= len(found) <= 13
    assert {"COMPLETE", "PRUNED"} == set(found)
    assert found.count("COMPLETE") >= START_UP


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--tune", "0"), "tune must be a whole number of at least 1, not 0"),
        (("--tune", "2", "--resume"), "no effect with --tune: --resume"),
        (("--tune", "2", "--folds", "3"), "no effect with --folds: --tune"),
        (("--tune", "2", "--test-pictures", "p"), "no effect with --tune: --test-pictures"),
        (("--tune", "2", "--log", "tensorboard"), "no effect with --tune: --log"),
        (
            ("--tune", "2", "--lr", "1", "--weight-decay", "0", "--augment", "none", "--model", "nano"),
            "--tune has nothing to choose: leave out --lr",
        ),
        (("--tune", "2", "--out", "photos"), "photos is not empty: pass --overwrite to replace the search in it"),
        (("--tune", "1", "--lr", "1e30", "--out", "s"), "no result of 1 trial in s: all diverged; pass a lower --lr"),
    ],
)
def test_mistakes_are_one_line(
    refused: Callable[..., str], photos: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    assert reason in refused("digits", *arguments)
    assert not (tmp_path / "runs").exists()


def test_without_optuna_and_with_other_options_it_is_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "train", lambda **_: (_ for _ in ()).throw(TrainingInterruptedError("Ctrl-C")))
        with pytest.raises(TrainingInterruptedError):
            tune("digits", trials=1, out=tmp_path / "study", **SHORT)
    line = refused("digits", "--model", "nano", "--epochs", "2", "--tune", "1", "--out", "study")
    assert "the study in study has other options or data" in line
    monkeypatch.setattr(tuning, "find_spec", lambda _: None)
    assert "--tune needs a package: python -m pip install optuna" in refused("digits", "--tune", "1")
