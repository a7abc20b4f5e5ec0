"""Labels that a network doubts: flipped labels are found, in sample, out of sample and out of fold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_train import Check, CrossValidation, RunError, check, cross_validate, open_source
from cnn_train.checking.finding import Finding
from cnn_train.checking.labels import HELD_OUT, LEARNED, OUT_OF_FOLD, doubted
from numpy.typing import NDArray
from PIL import Image


def test_the_confident_joint_is_that_of_the_paper() -> None:
    """Compared with a plain reading of equations 1 and 2 of Northcutt et al., 2021, on noisy predictions."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 300)
    labels[labels == 3] = 2  # no picture has the last class
    logits = 2.0 * np.eye(4)[labels] + random.normal(0, 1.5, (300, 4))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    wanted = []
    for row, label in zip(probabilities.astype(float), labels, strict=True):
        chosen, most = -1, -1.0
        for other in range(4):
            own = [float(probabilities[i, other]) for i in range(300) if labels[i] == other]
            if own and row[other] >= sum(own) / len(own) and row[other] > most:
                chosen, most = other, row[other]
        wanted.append(chosen if chosen != label else -1)
    found = doubted(probabilities, labels)
    assert found.tolist() == wanted
    assert 10 < (found >= 0).sum() < 150


WRONG = {f"wrong{number:02}.png" for number in range(4)}


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Two folds on dark and bright pictures, 40 of each; two of each class have the label of the other one."""
    random = np.random.default_rng(0)
    top = tmp_path_factory.mktemp("lights")
    for name in ("bright", "dark"):
        (top / "data" / name).mkdir(parents=True)
    for number in range(80):
        dark, wrong = number % 2 == 1, number < 4
        pixels = random.integers(0, 80, (12, 12)) + (0 if dark else 170)
        name = f"{'wrong' if wrong else 'right'}{number:02}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(top / "data" / ("dark" if dark != wrong else "bright") / name)
    settings: Any = {"model": "nano", "epochs": 1, "augment": "none"}
    return cross_validate(top / "data", folds=2, out=top / "folds", cache=str(top / "cache"), **settings)


@pytest.fixture(autouse=True)
def brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that tell bright from dark without fail: those of the folds have seen too few pictures to do it."""

    def logits_of(_: object, pictures: NDArray[np.uint8], *__: object) -> NDArray[np.float32]:
        level = pictures.mean(axis=(1, 2, 3)) - 128
        return np.stack([level, -level], axis=1).astype(np.float32)

    monkeypatch.setattr("cnn_train.checking.labels.logits_of", logits_of)


def doubts(found: Check) -> list[Finding]:
    return [each for each in found.findings if each.kind == "doubted-label"]


def test_flipped_labels_are_found_out_of_fold(folds: CrossValidation, tmp_path: Path) -> None:
    found = check(run=folds.path, out=tmp_path / "check", cache=str(tmp_path / "cache"))
    labels = doubts(found)
    assert {Path(each.path).name for each in labels} == WRONG
    assert all(OUT_OF_FOLD in each.detail for each in labels)
    assert found.report["pictures"] == {"train": 80}
    assert [each.rank for each in labels] == sorted((each.rank for each in labels), reverse=True)


def test_one_run_says_which_labels_it_learned(folds: CrossValidation, tmp_path: Path) -> None:
    run = folds.runs[0]
    found = check(run=run.path, out=tmp_path / "check", cache=str(tmp_path / "cache"))
    parts = found.report["pictures"]
    assert list(parts) == ["train", "val", "test"]
    source = open_source(run.config.data, fold=run.config.fold)
    learned = {*source.splits["train"].pictures}
    assert {Path(each.path).name for each in doubts(found)} == WRONG
    assert 0 < sum(each.path in learned for each in doubts(found)) < len(WRONG)
    assert all((LEARNED if each.path in learned else HELD_OUT) in each.detail for each in doubts(found))


def test_a_run_of_other_classes_is_refused(folds: CrossValidation, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has other classes than the data"):
        check("digits", run=folds.runs[0].path, out=tmp_path / "other")
