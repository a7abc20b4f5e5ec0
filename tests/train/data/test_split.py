"""Random splits: stratified, disjoint, and the same on every machine."""

import numpy as np
import pytest
from cnn_train.data.split import set_aside


def test_parts_are_disjoint_complete_and_stratified() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [500, 300, 200]))
    parts = set_aside(labels, [100, 50], seed=3)
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert [list(np.bincount(labels[part])) for part in parts] == [[425, 255, 170], [50, 30, 20], [25, 15, 10]]


def test_the_same_seed_gives_the_same_and_another_seed_another() -> None:
    labels = np.repeat(np.arange(10), 100)
    first, second, other = (set_aside(labels, [100], seed)[1] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_draw_never_changes() -> None:
    # A split that moved would put test pictures of old runs into new training: these numbers must stay
    labels = np.tile(np.arange(3), 10)
    assert [part.tolist() for part in set_aside(labels, [3, 6], seed=0)[1:]] == [[3, 11, 13], [1, 2, 15, 20, 21, 25]]


def test_a_large_seed_is_taken() -> None:
    assert len(set_aside(np.repeat([0, 1], 20), [4], seed=2**63)[1]) == 4


def test_rare_classes_get_one_picture_each_and_keep_one() -> None:
    labels = np.repeat([0, 1, 2], [3, 3, 1000])
    for part in set_aside(labels, [2, 100], seed=0):
        assert set(labels[part]) == {0, 1, 2}


def test_a_greedy_part_leaves_one_picture_for_each_later_one() -> None:
    assert [len(part) for part in set_aside(np.repeat([0, 1], 3), [4, 1], seed=0)] == [2, 2, 2]


def test_more_classes_than_pictures_wanted() -> None:
    labels = np.tile(np.arange(50), 3)
    left, val, test = set_aside(labels, [5, 5], seed=0)
    assert len(left) == len(val) == len(test) == 50


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="each class"):
        set_aside(np.repeat([0, 1], [2, 50]), [5, 5], seed=0)
