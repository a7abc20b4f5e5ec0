"""Cross-validation: folds that share nothing, figures over all of them, and an interruption that costs one epoch."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from cnn_train import ConfigError, DataError, Epoch, RunError, TrainingInterruptedError, cross_validate, open_source
from cnn_train.cross_validation import FOLDS_REPORT
from cnn_train.data.folds import with_fold
from cnn_train.data.tree import Records
from cnn_train.errors import DivergedError, TrainingFailedError

SHORT = {"model": "nano", "epochs": 2, "augment": "none", "device": "cpu", "precision": "fp32"}
LATER = (FOLDS_REPORT, "confusion.png", "fold-2/report.json", "fold-2/checkpoint.pt")


def records_of(labels: np.ndarray) -> Records:
    return Records(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)


@pytest.mark.parametrize("group", [None, r"(\d)\.jpg"])
def test_each_picture_is_tested_once_and_never_in_another_split(photos: Path, group: str | None) -> None:
    tested: list[str] = []
    for number in range(1, 4):
        source = open_source(str(photos), fold=f"{number}/3", group=group)
        parts = {split: set(records.pictures) for split, records in source.splits.items()}
        assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 36
        if group is None:
            assert np.bincount(source.splits["test"].labels).tolist() == [4, 4, 4]
            assert np.bincount(source.splits["val"].labels).tolist() == [1, 1, 1]
        else:
            held = [set(records.groups) for records in source.splits.values() if records.groups is not None]
            assert sum(map(len, held)) == len(set.union(*held)) == 10
            assert set(source.splits["test"].labels.tolist()) == {0, 1, 2}
        tested += parts["test"]
    assert len(tested) == len(set(tested)) == 36


def test_an_interrupted_cross_validation_continues_with_the_same_result(photos: Path, tmp_path: Path) -> None:
    whole = cross_validate(photos, folds=2, out=tmp_path / "whole", cache=str(tmp_path / "cache"), **SHORT)
    assert [run.path.name for run in whole.runs] == ["fold-1", "fold-2"]
    folds = whole.report["folds"]
    assert [fold["images"] for fold in folds] == [18, 18]
    assert whole.report["accuracy"]["mean"] == pytest.approx(np.mean([fold["accuracy"] for fold in folds]))
    assert whole.report["accuracy"]["deviation"] == pytest.approx(np.std([fold["accuracy"] for fold in folds], ddof=1))
    assert np.sum(whole.report["pooled"]["confusion"]) == whole.report["pooled"]["images"] == 36
    assert whole.report["pooled"]["classes"] == ["blue", "green", "red"]
    assert (tmp_path / "whole" / "confusion.png").stat().st_size > 1000
    assert {run.config.fold for run in whole.runs} == {"1/2", "2/2"}

    seen = 0

    def stop(epochs: Sequence[Epoch]) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:  # the first epoch of the second fold
            raise KeyboardInterrupt

    part = tmp_path / "part"
    with pytest.raises(TrainingInterruptedError, match=r"in fold 2 of 2: cnn-train --folds 2 --resume --out .*part$"):
        cross_validate(photos, folds=2, out=part, cache=str(tmp_path / "cache"), on_epoch=stop, **SHORT)
    assert not (part / FOLDS_REPORT).exists()
    with pytest.raises(RunError, match=r"part has fold 1/2: pass the same number with --folds"):
        cross_validate(folds=3, out=part, resume=True)
    first = (part / "fold-1" / "report.json").stat().st_mtime_ns
    # another one, interrupted in its first epoch, replaces one whose second fold is finished
    other = tmp_path / "other"
    (other / "fold-1").mkdir(parents=True)
    shutil.copy(part / "fold-1" / "config.toml", other / "fold-1")
    shutil.copytree(tmp_path / "whole" / "fold-2", other / "fold-2")
    replace(whole.runs[1].config, lr=3e-5).save(other / "fold-2" / "config.toml")
    report = whole.runs[1].report | {"test": whole.runs[1].report["test"] | {"accuracy": 0.0}}
    (other / "fold-2" / "report.json").write_text(json.dumps(report))
    cross_validate(folds=2, out=part, resume=True)
    assert (part / "fold-1" / "report.json").stat().st_mtime_ns == first
    cross_validate(folds=2, out=other, resume=True)
    for again in (part, other):
        assert json.loads((again / FOLDS_REPORT).read_text()) == json.loads((whole.path / FOLDS_REPORT).read_text())

    # a mistake deletes nothing; a first fold replaces all that is beside it
    with pytest.raises(ConfigError, match="lr must be"):
        cross_validate(photos, folds=2, out=other, overwrite=True, lr=-1, **SHORT)
    assert all((other / name).is_file() for name in LATER)
    seen = 2
    with pytest.raises(TrainingInterruptedError, match="in fold 1 of 2"):
        cross_validate(photos, folds=2, out=other, overwrite=True, on_epoch=stop, **SHORT)
    assert not any((other / name).exists() for name in LATER)


def test_a_resumed_cross_validation_has_no_fold_of_an_earlier_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SHORT, "epochs": 1, "cache": str(tmp_path / "cache")}
    out = tmp_path / "folds"
    cross_validate(photos, folds=2, out=out, seed=0, **settings)
    with monkeypatch.context() as patch:
        patch.setattr("cnn_train.recipe.fit.Fit.epoch", Mock(side_effect=KeyboardInterrupt))  # in the first epoch
        with pytest.raises(TrainingInterruptedError, match="in fold 1 of 2"):
            cross_validate(photos, folds=2, out=out, seed=1, overwrite=True, **settings)
    assert (out / "fold-1" / "checkpoint.pt").is_file()
    assert (out / "fold-2" / "report.json").is_file()
    resumed = cross_validate(folds=2, out=out, resume=True)
    assert [run.config.seed for run in resumed.runs] == [1, 1]
    # a fold whose training was begun with other settings is none of this cross-validation
    replace(resumed.runs[1].config, seed=0, lr=0.5).save(out / "fold-2" / "config.toml")
    for name in ("report.json", "checkpoint.pt"):
        with pytest.raises(RunError, match=r"fold-2 was trained with other settings than fold-1 \(seed\): remove it"):
            cross_validate(folds=2, out=out, resume=True)
        (out / "fold-2" / name).unlink()
    assert cross_validate(folds=2, out=out, resume=True).runs[1].config.seed == 1


def test_a_full_disk_in_the_first_epoch_leaves_no_fold_of_an_earlier_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SHORT, "epochs": 1, "cache": str(tmp_path / "cache")}
    out = tmp_path / "folds"
    cross_validate(photos, folds=2, out=out, **settings)
    full = OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
    monkeypatch.setattr("cnn_train.recipe.fit.Fit.epoch", Mock(side_effect=full))
    advice = r"cnn-train --resume --out \S+fold-1, then cnn-train --folds 2 --resume --out \S+folds$"
    with pytest.raises(TrainingFailedError, match=advice) as caught:
        cross_validate(photos, folds=2, out=out, overwrite=True, **settings)
    assert caught.value.reason.endswith("free some space")
    assert not any((out / name).exists() for name in LATER)


def test_what_starts_again_has_no_fold_to_continue(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverged = DivergedError("it diverged", lower_rate=False)
    monkeypatch.setattr("cnn_train.recipe.fit.Fit.epoch", Mock(side_effect=diverged))
    settings = {**SHORT, "cache": str(tmp_path / "cache")}
    with pytest.raises(DivergedError, match=r"^it diverged; start again with --overwrite$") as caught:
        cross_validate(photos, folds=2, out=tmp_path / "folds", **settings)
    assert not caught.value.lower_rate


def test_after_a_divergence_the_commands_of_the_message_finish_the_cross_validation(
    photos: Path, tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    flags = ("photos", "--folds", "2", "--size", "16", "--model", "nano", "--epochs", "2", "--optimizer", "sgd")
    flags += ("--precision", "fp32", "--device", "cpu", "--weight-decay", "0.1", "--out", "folds")
    assert command(*flags)[0] == 0
    first = tmp_path / "folds" / "fold-1" / "config.toml"
    shutil.rmtree(tmp_path / "folds" / "fold-2")
    first.write_text(re.sub("(?m)^lr = .*$", "lr = 1e12", first.read_text()))  # the second fold diverges
    code, text = command("--folds", "2", "--resume", "--out", "folds")
    advice = re.search(r": cnn-train (--resume --out folds/fold-2 --lr \S+), then cnn-train (--folds .*)$", text)
    assert advice is not None, text
    assert code == 2
    alone, rest = advice[1], advice[2]
    photos.rename(tmp_path / "moved")
    code, text = command(*alone.split(), "moved", "--cache", "here")
    while code:
        alone = text.rpartition(": cnn-train ")[2].strip()
        assert float(alone.split()[-1]) > 1e-3, text
        code, text = command(*alone.split(), "moved")
    code, text = command(*rest.split())
    assert code == 0, text
    assert f"fold-2 was trained with other settings than fold-1: lr {float(alone.split()[-1])}, not {1e12}" in text
    assert len(json.loads((tmp_path / "folds" / FOLDS_REPORT).read_text())["folds"]) == 2

    # another one that diverges in its first epoch, whose first fold is then resumed alone, keeps no second fold
    code, text = command("moved", *flags[1:], "--overwrite", "--lr", "1e12", "--seed", "1")
    assert code == 2
    assert "; 0 of 2 epochs are kept in folds/fold-1/checkpoint.pt: cnn-train --resume --out folds/fold-1" in text
    assert not any((tmp_path / "folds" / name).exists() for name in LATER)


@pytest.mark.parametrize("where", ["the call", "the file"])
def test_one_teacher_for_all_folds_is_refused_at_the_start(
    refused: Callable[..., str], photos: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "mine.toml").write_text('teacher = "gone"')
    given = ("--teacher", "gone") if where == "the call" else ("--config", "mine.toml")
    line = refused("photos", "--folds", "2", *given)
    assert "--folds takes no --teacher" in line
    assert line.endswith("train each fold with --fold I/K and its own --teacher")
    assert not (tmp_path / "runs").exists()


def test_the_folder_is_named_after_the_data_of_the_file(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('data = "photos"')
    trained = Mock(side_effect=TrainingInterruptedError)
    monkeypatch.setattr("cnn_train.cross_validation.train", trained)
    for data, name in ((None, "photos"), ("tes t", "tes-t")):
        with pytest.raises(TrainingInterruptedError, match=rf"runs/[0-9]+-[0-9]+-{name}-folds"):
            cross_validate(data, folds=3, config="mine.toml")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("photos", "--folds", "1"), "folds must be a whole number from 2 to 100, not 1"),
        (("photos", "--folds", "13"), "class 'blue' has 12 pictures: 13 are needed for 13 folds"),
        (
            ("photos", "--folds", "5", "--group", r"(blue/1?|\w+/\d+)"),
            "class 'blue' has 2 groups: 5 are needed for 5 folds",
        ),
        (
            ("photos", "--folds", "2", "--group", r"(blue/[12]?|\w+/\d+)"),
            "class 'blue' has 3 groups: 4 are needed for 2 folds",
        ),
        (
            ("photos", "--folds", "2", "--group", r"(blue/[012]\.|blue|\w+/\d+)"),
            "3 of 4 groups of class 'blue' are in fold 1, and the other folds need two for training and validation",
        ),
        (("split", "--folds", "3"), "has the split test, but each fold is the test split once: give the training pict"),
        (("photos", "--folds", "3", "--fold", "1/3"), "no effect with --folds: --fold"),
        (("photos", "--folds", "3", "--test-pictures", "p"), "no effect with --folds: --test-pictures"),
        (("photos", "--folds", "3", "--resume", "--out", "x"), "leave out data"),
        (("--folds", "3", "--resume", "--overwrite", "--out", "x"), "no effect with --resume: --overwrite"),
        (("--folds", "3", "--resume"), "needs the folder of the cross-validation: name it with --out"),
        (("--folds", "3", "--resume", "--out", "x"), "x has no cross-validation to resume: start it without --resume"),
        (("photos", "--folds", "3", "--out", "photos"), "photos is not empty: pass --overwrite"),
        (("photos", "--fold", "4/3"), "fold must be a fold and the number of folds, such as 2/5"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    refused: Callable[..., str], photos: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    for name in ("train", "test"):
        (tmp_path / "split").mkdir(exist_ok=True)
        (tmp_path / "split" / name).symlink_to(photos)
    assert reason in refused(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["photos", "split"]


@pytest.mark.parametrize(("folds", "needed"), [(2, 6), (3, 4), (5, 5)])
def test_the_fewest_pictures_of_a_class_that_all_folds_can_be_made_of(folds: int, needed: int) -> None:
    for others in range(needed, 40):
        labels = np.repeat([0, 1, 2], [needed, others, others])
        for number in range(1, folds + 1):
            made = with_fold("it", {"train": records_of(labels)}, "abc", (number, folds), 0)
            assert np.bincount(made["train"].labels).min() >= 2
            assert np.bincount(made["test"].labels).min() >= 1
    with pytest.raises(DataError, match=f"class 'a' has .*: {needed} are needed for {folds} folds"):
        with_fold("it", {"train": records_of(labels[1:])}, "abc", (1, folds), 0)


def test_a_fold_must_be_one(photos: Path) -> None:
    with pytest.raises(DataError, match="fold must be such as 2/5, not '3'"):
        open_source(str(photos), fold="3")
