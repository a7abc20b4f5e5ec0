"""Labels that a network doubts: flipped labels are found, in sample, out of sample and out of fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_train import RunError, check, cross_validate, train
from cnn_train.checking.labels import HELD_OUT, LEARNED, OUT_OF_FOLD, doubted
from PIL import Image

Command = Callable[..., tuple[int, str]]


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


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upright and flat bars, 60 of each; two of each class have the label of the other one."""
    random = np.random.default_rng(0)
    top = tmp_path_factory.mktemp("bars") / "bars"
    for name in ("flat", "upright"):
        (top / name).mkdir(parents=True)
    for number in range(120):
        pixels = random.integers(0, 90, (16, 16)).astype(np.uint8)
        start = random.integers(2, 12)
        pixels[start : start + 3] = random.integers(180, 255, (3, 16))
        upright = number % 2 == 1
        wrong = number < 4
        name = "upright" if upright != wrong else "flat"
        picture = pixels.T if upright else pixels
        Image.fromarray(picture).save(top / name / f"{'wrong' if wrong else 'right'}{number:03}.png")
    return top


def test_flipped_labels_are_found_out_of_fold(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "folds"
    cross_validate(bars, folds=3, out=out, model="nano", epochs=4, augment="none", cache=str(tmp_path / "cache"))
    found = check(run=out, out=tmp_path / "check", cache=str(tmp_path / "cache"))
    labels = [each for each in found.findings if each.kind == "doubted-label"]
    assert {Path(each.path).name for each in labels[:4]} == {f"wrong{number:03}.png" for number in range(4)}
    assert len(labels) < 10
    assert all(OUT_OF_FOLD in each.detail for each in labels)
    assert found.report["pictures"] == {"train": 120}


def test_a_run_says_which_labels_it_learned(bars: Path, tmp_path: Path, command: Command) -> None:
    train(bars, out=tmp_path / "run", model="nano", epochs=4, augment="none", cache=str(tmp_path / "cache"))
    code, text = command("--check", "--run", "run", "--cache", "cache", "--out", "check", "--format", "csv")
    assert code == 0, text
    rows = (tmp_path / "check" / "findings.csv").read_text().splitlines()
    rows = [row for row in rows if ",doubted-label," in row]
    assert rows
    for row in rows:
        assert (LEARNED in row) != (HELD_OUT in row)
    assert sum("wrong" in row.split(",")[0] for row in rows[:4]) >= 3
    with pytest.raises(RunError, match="has other classes than the data"):
        check("digits", run=tmp_path / "run", out=tmp_path / "other")
