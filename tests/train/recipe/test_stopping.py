"""Early stopping: the best epoch is kept, measured and shown, also after a kill; a small test split is reported."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cnn_train import Config, Run, train
from cnn_train.metrics import cross_entropy, uncertainty_warning
from cnn_train.recipe.fit import Epoch
from cnn_train.recipe.stopping import best_epoch, is_over, out_of_patience
from cnn_train.run.plots import curves, save
from PIL import Image

FLAGS = ("--model", "nano", "--batch-size", "8", "--augment", "none", "--label-smoothing", "0")


@pytest.fixture
def config(finished: Run) -> Config:
    return replace(finished.config, epochs=20, patience=2)


def epochs(*losses: float) -> list[Epoch]:
    return [
        Epoch(number, 40, 8, 8, 1.0, 0.5, 9.0, 0.5, loss, 0.1, 100.0, 1.0)
        for number, loss in enumerate(losses, start=1)
    ]


def test_the_best_epoch_has_the_lowest_calibrated_loss_the_first_of_equals() -> None:
    assert best_epoch(epochs(3, 2, 4)).epoch == 2
    assert best_epoch(epochs(3, 2, 2)).epoch == 2


@pytest.mark.parametrize(("error", "kept"), [(0.0, 1), (0.5, 1), (1.5, 3), (2.5, 4)])
def test_fine_tuning_keeps_the_latest_epoch_within_a_standard_error(error: float, kept: int) -> None:
    fitted, *others = epochs(1, 4, 2, 3)
    fitted = replace(fitted, lr=0.0, val_calibrated_error=error)
    assert best_epoch([fitted]) is fitted
    assert best_epoch([fitted, *others]).epoch == kept
    lower, higher = epochs(0.9, 1.3)
    assert best_epoch([fitted, lower, higher]) is (higher if error >= 0.5 else lower)


def test_patience_begins_with_fine_tuning(config: Config) -> None:
    fitted, *others = epochs(1, 4, 3, 2, 2, 2)
    fitted = replace(fitted, lr=0.0, val_calibrated_error=0.1)
    assert not out_of_patience([fitted, *others[:4]], config)
    assert out_of_patience([fitted, *others], config)


def test_fine_tuning_that_is_out_of_patience_ends_with_another_fit_of_the_last_layer(config: Config) -> None:
    config = replace(config, model="lite0", pretrained=True, height=96, width=96)
    fitted, *others = epochs(1, 3, 2, 2, 2)
    fitted = replace(fitted, lr=0.0, height=96, width=96)
    smaller = [replace(epoch, height=64, width=64) for epoch in others]
    assert not out_of_patience([fitted, *smaller[:3]], config)
    assert out_of_patience([fitted, *smaller], config)
    assert not is_over([fitted, *smaller], config)
    assert is_over([fitted, *smaller, fitted], config)
    assert is_over([fitted, *smaller], replace(config, epochs=5))
    # a teacher leaves the last layer as it is, and the pictures at their size
    larger = [replace(epoch, height=96, width=96) for epoch in others]
    assert is_over([fitted, *larger], replace(config, teacher="run"))


def test_an_epoch_of_smaller_pictures_is_never_the_best_where_there_are_larger_ones() -> None:
    first, second, third = epochs(1, 3, 2)
    assert best_epoch([replace(first, height=4, width=4), second, third]) is third
    assert best_epoch([replace(first, height=4, width=4)]).epoch == 1


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [((), 1, False), ((3, 2, 4), 2, False), ((3, 2, 4, 5), 2, True), ((3, 2, 4, 2), 2, True), ((1, 2, 3, 4), 0, False)],
)
def test_patience_counts_epochs_without_a_better_one(
    losses: tuple[float, ...], patience: int, over: bool, config: Config
) -> None:
    assert out_of_patience(epochs(*losses), replace(config, patience=patience)) is over


@pytest.mark.parametrize(
    ("small", "losses", "over"),
    [
        (5, (1, 2, 3, 4, 5), False),  # no epoch at the final size yet
        (3, (1, 2, 3, 9, 9), False),  # the second epoch at the final size is the first without a better one
        (3, (1, 2, 3, 9, 9, 9), True),
        (3, (1, 2, 3, 9, 8, 8), False),
    ],
)
def test_patience_counts_only_epochs_at_the_final_size(
    small: int, losses: tuple[float, ...], over: bool, config: Config
) -> None:
    done = [replace(epoch, height=4) if epoch.epoch <= small else epoch for epoch in epochs(*losses)]
    assert out_of_patience(done, config) is over


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Nothing can be learned here: the longer a network is trained, the worse it does on validation."""
    random = np.random.default_rng(0)
    for split, size in (("train", 40), ("val", 20), ("test", 20)):
        for name in ("heads", "tails"):
            folder = tmp_path / "noise" / split / name
            folder.mkdir(parents=True)
            for number in range(size):
                Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "noise"


def test_training_stops_and_keeps_the_best_epoch(noise: Path, command: Callable[..., tuple[int, str]]) -> None:
    code, text = command(str(noise), *FLAGS, "--epochs", "60", "--patience", "6", "--out", "run")
    assert code == 0, text
    run = Run.open("run")
    losses = [json.loads(line)["val_loss"] for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    kept = run.report["best_epoch"]
    assert len(losses) == run.report["epochs"] == kept + 6 < 60
    assert kept == np.argmin(losses) + 1
    assert "stopped early: 6 epochs without a lower validation loss" in text
    assert f"epoch {kept} of {kept + 6}" in text
    # while training runs, validation is computed in its precision
    assert run.report["validation"]["loss"] == pytest.approx(min(losses), abs=2e-3)
    # and these are the weights in the file
    pictures = [
        (np.asarray(Image.open(noise / "val" / name / f"{number}.png")), label)
        for label, name in enumerate(("heads", "tails"))
        for number in range(20)
    ]
    pixels = torch.tensor(np.stack([picture for picture, _ in pictures]))[:, None].float()
    with torch.no_grad():
        logits = run.network()((pixels - run.spec.zero_point) * run.spec.scale).numpy()
    labels = np.array([label for _, label in pictures])
    assert cross_entropy(logits, labels) == pytest.approx(run.report["validation"]["loss"], abs=1e-5)


def test_training_never_stops_while_its_pictures_are_small(noise: Path, tmp_path: Path) -> None:
    options = {"model": "nano", "batch_size": 8, "augment": "none", "label_smoothing": 0, "size": 28}
    run = train(noise, out=tmp_path / "run", cache=str(tmp_path / "cache"), epochs=20, patience=2, **options)
    sides = [epoch.height for epoch in run.epochs]
    assert sides == [20] * 8 + [28] * (len(sides) - 8)
    assert len(sides) < 20
    kept = run.epochs[run.report["best_epoch"] - 1]
    assert (kept.height, kept.width) == (28, 28)
    assert len(sides) == kept.epoch + 2


def test_without_patience_training_goes_to_the_end_and_the_best_is_in_the_checkpoint(
    noise: Path, tmp_path: Path
) -> None:
    options = {"model": "nano", "batch_size": 8, "augment": "none", "label_smoothing": 0, "epochs": 20}
    run = train(noise, out=tmp_path / "run", cache=str(tmp_path / "cache"), patience=0, **options)
    assert run.report["epochs"] == 20
    assert run.report["best_epoch"] < 20
    weights = (run.path / "model.safetensors").read_bytes()
    for name in ("model.safetensors", "report.json"):  # as if killed after the last epoch
        (run.path / name).unlink()
    again = train(out=run.path, resume=True)
    assert (run.path / "model.safetensors").read_bytes() == weights
    assert again.report["best_epoch"] == run.report["best_epoch"]


@pytest.mark.parametrize("kept", [2, 9])
def test_the_curves_show_which_epoch_is_kept(tmp_path: Path, kept: int) -> None:
    save(curves(epochs(*range(10, 0, -1)), kept), tmp_path / "curves.png")
    dark = np.asarray(Image.open(tmp_path / "curves.png").convert("L")) < 130
    upright = np.flatnonzero(dark.sum(axis=0) > 80)
    # of each of the two plots the left edge, the line, the right edge
    lines = upright[np.diff(upright, prepend=-9) > 1].reshape(2, 3)
    for left, line, right in lines:
        margin = 0.05  # matplotlib's, on either side of the data
        expected = ((kept - 1) / 9 + margin) / (1 + 2 * margin)
        assert (line - left) / (right - left) == pytest.approx(expected, abs=0.01)


# how uncertain the test figure is


@pytest.mark.parametrize(("low", "high", "warned"), [(0.9, 0.99, False), (0.88, 0.981, True), (0.4, 0.6, True)])
def test_a_wide_interval_is_worth_a_warning(low: float, high: float, warned: bool) -> None:
    text = uncertainty_warning({"images": 40, "accuracy_interval": [low, high]})
    assert (text is not None) is warned
    assert text is None or f"interval of the accuracy is {low:.1%} to {high:.1%}" in text


def test_few_test_pictures_are_reported_with_the_interval(noise: Path, command: Callable[..., tuple[int, str]]) -> None:
    code, text = command(str(noise), *FLAGS, "--epochs", "1", "--out", "run")
    assert code == 0, text
    report = Run.open("run").report
    low, high = report["test"]["accuracy_interval"]
    [warning] = report["warnings"]
    assert f"warning: {warning}" in text.splitlines()
    assert warning.startswith("40 test pictures are few")
    [line] = [line for line in text.splitlines() if line.startswith("test: ")]
    assert f"(95% interval {low:.1%} to {high:.1%})" in line
    assert re.search(r"accuracy \d+\.\d\d% \(", line)
