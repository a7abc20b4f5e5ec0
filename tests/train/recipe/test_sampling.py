"""Which pictures an epoch shows; classes of unequal size are drawn equally often, or at least named."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_train import Run
from cnn_train.recipe.sampling import epoch_order, imbalance_warning
from PIL import Image

LABELS = np.repeat([2, 0, 1], [100, 7, 3])


def counts(order: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.bincount(of[order])


def test_every_picture_is_shown_once() -> None:
    assert sorted(epoch_order(LABELS, 0, 0, balance=False)) == list(range(110))


def test_balanced_every_class_is_drawn_equally_often_and_so_is_every_picture_in_it() -> None:
    for number in range(5):
        order = epoch_order(LABELS, 0, number, balance=True)
        assert len(order) == 110
        assert sorted(counts(order, LABELS)) == [36, 37, 37]
        pictures = counts(order, np.arange(110))
        for label in range(3):
            own = pictures[LABELS[: len(pictures)] == label]
            assert own.max() - own.min() <= 1, label


def test_over_the_epochs_all_of_a_large_class_is_shown_and_the_odd_picture_goes_round() -> None:
    orders = [epoch_order(LABELS, 0, number, balance=True) for number in range(30)]
    assert set(np.concatenate(orders)) == set(range(110))
    assert all({counts(order, LABELS)[label] for order in orders} == {36, 37} for label in range(3))


def test_classes_are_mixed() -> None:
    order = epoch_order(LABELS, 0, 0, balance=True)
    assert all(len(set(LABELS[order[start : start + 20]])) == 3 for start in range(0, 110, 20))


@pytest.mark.parametrize("balance", [False, True])
def test_an_order_follows_from_seed_and_epoch(balance: bool) -> None:
    first = epoch_order(LABELS, 3, 5, balance=balance)
    assert (epoch_order(LABELS, 3, 5, balance=balance) == first).all()
    assert (epoch_order(LABELS, 3, 6, balance=balance) != first).any()
    assert (epoch_order(LABELS, 4, 5, balance=balance) != first).any()


def test_from_ten_to_one_on_the_largest_and_smallest_class_are_named() -> None:
    names = ("ant", "bee", "cat")
    assert imbalance_warning(np.repeat([0, 1, 2], [100, 999, 500]), names) is None
    text = imbalance_warning(np.repeat([0, 1, 2], [100, 1000, 500]), names)
    assert text is not None
    assert "bee has 1,000 training pictures, ant has 100: pass --balance" in text


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """60 and 3 pictures that look all the same: nothing tells the classes apart but how often they come."""
    for split, sizes in (("train", {"common": 60, "rare": 3}), ("val", {"common": 1, "rare": 1})):
        for name, size in sizes.items():
            folder = tmp_path / "unequal" / split / name
            folder.mkdir(parents=True)
            for number in range(size):
                Image.new("L", (8, 8), 99).save(folder / f"{number}.png")
    (tmp_path / "unequal" / "test").symlink_to(tmp_path / "unequal" / "val")
    return tmp_path / "unequal"


def test_the_command_warns_and_balances(unequal: Path, command: Callable[..., tuple[int, str]]) -> None:
    flags = (str(unequal), "--model", "nano", "--epochs", "4", "--augment", "none")
    code, text = command(*flags, "--out", "plain")
    assert code == 0, text
    warning = "the class common has 60 training pictures, rare has 3: pass --balance to draw every class equally often"
    assert f"warning: {warning}" in text.splitlines()
    assert warning in Run.open("plain").report["warnings"]
    code, text = command(*flags, "--out", "balanced", "--balance")
    assert code == 0, text
    assert "--balance" not in text
    accuracies = {}
    for name in ("plain", "balanced"):
        lines = Path(name, "metrics.jsonl").read_text().splitlines()
        accuracies[name] = json.loads(lines[-1])["train_accuracy"]
    assert accuracies["plain"] > 0.9  # it knows that rare is rare
    assert 0.3 < accuracies["balanced"] < 0.7


def test_half_of_the_easy_pictures_are_left_out_and_all_hard_ones_shown() -> None:
    losses = np.where(np.arange(4000) % 4 == 0, 2.0, 0.1).astype(np.float32)
    labels = np.zeros(4000, np.int64)
    shown = epoch_order(labels, 7, 3, balance=False, losses=losses)
    assert len(set(shown)) == len(shown)
    assert set(np.flatnonzero(losses > 1)) <= set(shown)
    assert 0.45 < np.isin(np.flatnonzero(losses < 1), shown).mean() < 0.55
    np.testing.assert_array_equal(shown, epoch_order(labels, 7, 3, balance=False, losses=losses))
    assert set(shown) != set(epoch_order(labels, 7, 4, balance=False, losses=losses))


def test_pictures_that_are_all_alike_are_all_shown() -> None:
    same = np.full(50, 0.25, np.float32)
    assert sorted(epoch_order(np.zeros(50, np.int64), 0, 1, balance=False, losses=same)) == list(range(50))
