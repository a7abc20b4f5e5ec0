"""--log: TensorBoard and MLflow hold each epoch once, also after an interruption."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cnn_train import Epoch, Run, TrainingInterruptedError, train
from cnn_train.sqlite_url import sqlite_url
from cnn_train.tracking import DATABASE, EVENTS, scalars


def tensorboard_log(run: Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(run.path / EVENTS)).Reload()
    return {name: [(event.step, event.value) for event in log.Scalars(name)] for name in log.Tags()["scalars"]}


def mlflow_log(run: Run) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(sqlite_url(run.path / DATABASE))
    [found] = client.search_runs([client.get_experiment_by_name("cnn-train").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["model"] == "nano"
    return {
        name: [(entry.step, entry.value) for entry in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }


@pytest.mark.parametrize(("log", "read"), [("tensorboard", tensorboard_log), ("mlflow", mlflow_log)])
def test_the_log_has_each_epoch_once_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: str, read: Callable[[Run], dict[str, list[tuple[int, float]]]]
) -> None:
    pytest.importorskip(log)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def stop(epochs: Sequence[Epoch]) -> None:
        if len(epochs) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "o'neil 100%? ü" / "run"
    with pytest.raises(TrainingInterruptedError):
        train("digits", model="nano", epochs=3, out=out, log=log, on_epoch=stop)
    run = train(out=out, resume=True)
    assert log == "tensorboard" or (out / DATABASE).is_file()
    found = read(run)
    assert found.keys() == scalars(run.epochs[0]).keys()
    for name, entries in found.items():
        assert entries == [(epoch.epoch, pytest.approx(scalars(epoch)[name])) for epoch in run.epochs]


@pytest.mark.parametrize(("log", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow-skinny sqlalchemy")])
def test_without_its_package_a_log_is_refused_before_the_data_is_opened(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, log: str, package: str
) -> None:
    monkeypatch.delitem(sys.modules, log, raising=False)
    monkeypatch.setattr("cnn_train.tracking.find_spec", lambda name: None if name == log else name)
    assert f"--log {log} needs a package: python -m pip install {package}" in refused("digits", "--log", log)


def test_a_database_that_mlflow_cannot_use_is_one_line(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    line = refused("digits", "--model", "nano", "--epochs", "1", "--log", "mlflow")
    assert "MLflow cannot use nonsense://here: " in line
