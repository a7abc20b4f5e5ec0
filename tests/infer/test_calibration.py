"""Calibration in the report: streaming, resumed runs, and whatever the threshold. tests/train checks the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, evaluate
from cnn_infer.calibration import Calibration, calibration_of
from cnn_infer.evaluation import Evaluation
from cnn_infer.tally import Tally


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """60 pictures of random colours in the folders of three classes."""
    random = np.random.default_rng(0)
    for number, colour in enumerate(random.integers(0, 256, (60, 3)).tolist()):
        picture(tmp_path / "in" / ("red", "green", "blue")[number % 3] / f"{number}.png", tuple(colour))
    return tmp_path / "in"


def test_the_report_has_the_calibration_of_all_labelled_pictures(
    rgb: Classifier, models: Path, folder: Path, picture: Callable[..., Path]
) -> None:
    paths = sorted(folder.rglob("*.png"))
    labels = np.array([rgb.spec.classes.index(path.parent.name) for path in paths])
    wanted = calibration_of(rgb.probabilities(np.stack([rgb.pixels(path) for path in paths])), labels)
    picture(folder / "violet" / "1.png", (10, 10, 220))
    (folder / "red" / "broken.png").write_bytes(b"")
    for threshold in (0.0, 0.9):
        found = evaluate(Classifier(models / "rgb.onnx", threshold=threshold), [folder], batch_size=7).calibration
        assert found is not None
        assert found["images"] == sum(part["count"] for part in found["bins"]) == 60
        assert (found["ece"], found["brier"]) == pytest.approx((wanted["ece"], wanted["brier"]), rel=1e-6)
    assert evaluate(rgb, [folder], labels=False).calibration is None


def test_a_resumed_run_has_the_same_calibration(rgb: Classifier, folder: Path) -> None:
    whole = evaluate(rgb, [folder], threads=1)
    first = Evaluation(rgb, threads=1)
    rows = first.rows([folder])
    for _ in range(25):
        next(rows)
    rows.close()
    counted = json.loads(json.dumps(first.counted()))
    second = Evaluation(rgb, threads=1, counted=counted)
    assert len(list(second.rows([folder], skip=25))) == 35
    found = second.report().calibration
    assert found is not None
    assert whole.calibration is not None
    assert [part["count"] for part in found["bins"]] == [part["count"] for part in whole.calibration["bins"]]
    assert (found["ece"], found["brier"]) == pytest.approx((whole.calibration["ece"], whole.calibration["brier"]))
    infinite = json.loads('{"images": Infinity}')["images"]
    damaged: list[Any] = [{key: value for key, value in counted.items() if key != left_out} for left_out in counted]
    damaged += [{**counted, key: infinite} for key in counted if key != "top"]  # the model has none
    damaged += [5, {}, {**counted, "calibration": [[0], [0], [0.0], 0]}, {**counted, "confusion": [[0, 0, infinite]]}]
    for one in damaged:
        with pytest.raises(InputError, match="counts to resume from are damaged"):
            Evaluation(rgb, threads=1, counted=one)
    page = Evaluation(rgb, threads=1, page=True).counted()
    with pytest.raises(InputError, match="counts to resume from are damaged"):
        Evaluation(rgb, threads=1, page=True, counted={**page, "page": {**page["page"], "seen": infinite}})


def test_nothing_is_said_of_no_pictures() -> None:
    assert Calibration().results() is None


def test_probabilities_that_are_not_numbers_count_as_0(models: Path, folder: Path, tmp_path: Path) -> None:
    """A broken model gives rows and a report, and parts of a run still add up to it."""
    bias, nan = np.array([0, 0, 0, 2], np.float32).tobytes(), np.full(4, np.nan, np.float32).tobytes()
    data = (models / "rgb.onnx").read_bytes()
    assert data.count(bias) == 1
    (tmp_path / "nan.onnx").write_bytes(data.replace(bias, nan))
    broken = Classifier(tmp_path / "nan.onnx")
    report = evaluate(broken, [folder], threads=1)
    assert report.labelled == 60
    assert report.calibration is not None
    assert (report.calibration["brier"], report.calibration["bins"][0]["confidence"]) == (1.0, 0.0)
    assert report.calibration["ece"] == report.accuracy
    merged = Tally(broken.spec.classes)
    for name in ("red", "green", "blue"):
        part = Evaluation(broken, threads=1)
        list(part.rows([folder / name]))
        merged.merge(json.loads(json.dumps(part.counted(times=True))))
    assert merged.results()["calibration"] == report.calibration


def test_huge_values_count_as_1() -> None:
    found = Calibration()
    found.add(np.array([1e30, -np.inf], np.float32), 1)
    assert found.results() == {**calibration_of(np.array([[1, 0]], np.float32), np.array([1]))}
