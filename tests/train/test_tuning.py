"""--tune: a study that can be interrupted, shared and used, and that never measures the test split."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from cnn_train import Run, TrainingInterruptedError, train, tuning
from cnn_train.tuning import BEST, STUDY, _settings, tune

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
    assert found.count("COMPLETE") >= tuning.START_UP


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
        (("--tune", "2", "--out", "photos"), "photos is not empty: pass --overwrite"),
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
