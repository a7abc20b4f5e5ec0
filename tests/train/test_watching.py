"""The callback of train(), the stored epochs, and the curves drawn from them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from cnn_train import Epoch, Run, RunError, plots, train


class EnoughError(Exception):
    """Raised by the callback to end the training."""


def test_the_callback_gets_all_epochs_so_far_and_may_end_the_training(tmp_path: Path) -> None:
    seen: list[tuple[Epoch, ...]] = []

    def watch(epochs: Sequence[Epoch]) -> None:
        seen.append(tuple(epochs))
        if len(epochs) == 2 and len(seen) == 2:
            raise EnoughError

    options = {"model": "nano", "epochs": 3}
    with pytest.raises(EnoughError):
        train("digits", out=tmp_path / "run", on_epoch=watch, **options)
    run = train(out=tmp_path / "run", resume=True, on_epoch=watch)
    assert [[epoch.epoch for epoch in epochs] for epochs in seen] == [[1], [1, 2], [1, 2, 3]]
    assert seen[-1] == run.epochs


def test_the_epochs_of_a_run_are_read_back(finished: Run, run: Path) -> None:
    assert [epoch.epoch for epoch in finished.epochs] == [1, 2, 3]
    kept = finished.epochs[finished.report["best_epoch"] - 1]
    assert kept.val_accuracy == pytest.approx(finished.report["validation"]["accuracy"], abs=1e-6)
    for damage in ("{", '{"epoch": 1}', "[]"):
        (run / "metrics.jsonl").write_text(damage)
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            _ = Run.open(run).epochs


def test_curves_can_be_drawn_before_there_is_an_epoch_and_before_one_is_kept(finished: Run) -> None:
    for count in range(3):
        for axes, what in zip(plots.curves(finished.epochs[:count]).axes, ("loss", "accuracy"), strict=True):
            assert what in axes.get_title()
            assert [len(line.get_xdata()) for line in axes.lines] == [count] * (3 if what == "loss" else 2)
    loss, accuracy = plots.curves(finished.epochs, kept=2).axes
    assert [len(axes.lines) for axes in (loss, accuracy)] == [4, 3]
    assert [*loss.lines[2].get_ydata()] == [epoch.val_calibrated_loss for epoch in finished.epochs]
