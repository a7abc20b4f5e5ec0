"""Trainings that cannot be resumed, and the line that says why."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cnn_train import Epoch, RunError, TrainingInterruptedError, train
from cnn_train.run.checkpoint import load_checkpoint, save_checkpoint
from PIL import Image


def test_options_that_change_the_weights_are_refused(cut: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    text = refused("--resume", "--out", str(cut), "--dropout", "0.5", "--epochs", "9", "--strict")
    assert "leave out dropout, epochs, strict" in text
    (tmp_path / "mine.toml").write_text("epochs = 9\n")
    assert "leave out --config" in refused("--resume", "--out", str(cut), "--config", str(tmp_path / "mine.toml"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available")
@pytest.mark.parametrize("more", [(), ("--device", "cpu")], ids=["plain", "other device"])
def test_a_training_on_a_device_that_this_machine_lacks(
    cut: Path, refused: Callable[..., str], more: tuple[str, ...]
) -> None:
    config = cut / "config.toml"
    config.write_text(config.read_text().replace('device = "cpu"', 'device = "cuda"'))
    line = refused("--resume", "--out", str(cut), *more)
    assert "--device cuda is not available: " in line
    assert line.endswith("began on it: resume where it is available, or start again with --overwrite")
    assert "--device cpu" not in line


def test_overwrite_without_effect_is_refused(cut: Path, refused: Callable[..., str]) -> None:
    line = refused("--resume", "--out", str(cut), "--overwrite")
    assert "no effect with --resume and without --test-pictures: --overwrite" in line


def test_a_refused_folder_of_test_pictures_changes_no_setting(
    cut: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mine.png").touch()
    before = (cut / "config.toml").read_text()
    arguments = ("--resume", "--out", str(cut), "--lr", "0.5", "--test-pictures", "pictures")
    assert "pictures is not empty: --test-pictures writes" in refused(*arguments)
    assert "mine.png is not a test picture" in refused(*arguments, "--overwrite")
    assert (cut / "config.toml").read_text() == before


def test_test_pictures_that_cannot_be_written_are_one_line(cut: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write .*file: .*: 3 of 3 epochs are kept in .*--resume --out"):
        train(out=cut, resume=True, test_pictures=tmp_path / "file" / "inside")


@pytest.fixture
def cut(run: Path) -> Path:
    """A run folder whose last epoch is done and whose report is not."""
    (run / "report.json").unlink()
    return run


def test_a_finished_training_is_not_resumed(run: Path, refused: Callable[..., str]) -> None:
    assert refused("--resume", "--out", str(run)).rstrip().endswith("is finished: nothing to resume")
    longer = refused("--resume", "--out", str(run), "--epochs", "9")
    assert "nothing to resume; to train longer, start a new run with --epochs and another --out" in longer


def damaged(run: Path, how: str) -> None:
    file = run / "checkpoint.pt"
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "empty": b"",
            "text": b"not a checkpoint",
            "cut short": content[:middle],
            "overwritten": content[:2000] + bytes(2000) + content[4000:],
        }[how]
    )


@pytest.mark.parametrize("how", ["empty", "text", "cut short", "overwritten"])
def test_a_damaged_checkpoint_is_refused(cut: Path, refused: Callable[..., str], how: str) -> None:
    damaged(cut, how)
    assert "checkpoint.pt is damaged: start again with --overwrite" in refused("--resume", "--out", str(cut))


def test_a_checkpoint_of_another_network_is_refused(cut: Path, refused: Callable[..., str]) -> None:
    config = cut / "config.toml"
    config.write_text(config.read_text().replace('model = "nano"', 'model = "small"'))
    assert "does not fit the configuration in" in refused("--resume", "--out", str(cut))


def test_a_training_without_its_configuration_is_not_resumed(cut: Path, refused: Callable[..., str]) -> None:
    (cut / "config.toml").unlink()
    assert "cannot read" in refused("--resume", "--out", str(cut))


def test_nothing_to_resume(run: Path, refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no unfinished training under runs/" in refused("--resume")
    assert "no such run folder: none" in refused("--resume", "--out", "none")
    (tmp_path / "empty").mkdir()
    assert "nothing to resume in empty: checkpoint.pt" in refused("--resume", "--out", "empty")
    shutil.copytree(run, tmp_path / "runs" / "finished")
    assert "no unfinished training under runs/" in refused("--resume")


def test_changed_data_is_refused_and_moved_data_is_not(photos: Path, tmp_path: Path) -> None:
    options = {"model": "nano", "epochs": 1, "size": 16, "cache": str(tmp_path / "cache")}
    run = train(photos, out=tmp_path / "run", **options)
    before = run.report["test"]
    moved = photos.rename(tmp_path / "elsewhere")
    (run.path / "report.json").unlink()
    resumed = train(os.path.relpath(moved), out=run.path, resume=True)
    assert resumed.report["test"] == before
    assert resumed.config.data == str(moved)  # from where it can be resumed again, in any working directory
    (run.path / "report.json").unlink()
    Image.new("RGB", (20, 16), (1, 2, 3)).save(moved / "red" / "0.jpg")
    with pytest.raises(RunError, match=r"the data differs from the data that the training in .* started with"):
        train(moved, out=run.path, resume=True)


def test_the_report_has_the_warnings_of_all_sessions_once(photos: Path, tmp_path: Path) -> None:
    def stop(_: Sequence[Epoch]) -> None:
        raise KeyboardInterrupt

    for number in range(3, 12):
        (photos / "red" / f"{number}.jpg").unlink()
    options = {"model": "nano", "epochs": 2, "size": 16, "cache": str(tmp_path / "cache")}
    with pytest.raises(TrainingInterruptedError):
        train(photos, out=tmp_path / "run", on_epoch=stop, **options)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.warnings
    first = "only in the first session"
    save_checkpoint(tmp_path / "run", replace(checkpoint, warnings=[*checkpoint.warnings, first]))
    found = train(out=tmp_path / "run", resume=True).report["warnings"]
    assert found[: len(checkpoint.warnings) + 1] == [*checkpoint.warnings, first]
    assert len(found) == len(set(found))
