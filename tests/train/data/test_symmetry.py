"""Which pictures may be mirrored: not scikit-learn's digits, but the same digits after half of them were mirrored."""

from __future__ import annotations

import numpy as np
import pytest
from cnn_train.data.symmetry import is_asymmetric
from sklearn.datasets import load_digits

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)


@pytest.mark.parametrize("count", [100, 1797])
def test_digits_have_a_side(count: int) -> None:
    assert is_asymmetric(IMAGES[:count], LABELS[:count])


@pytest.mark.parametrize("count", [300, 1797])
def test_pictures_mirrored_by_chance_have_none(count: int) -> None:
    mirrored = np.random.default_rng(0).random(count) < 0.5
    images = np.where(mirrored[:, None, None, None], IMAGES[:count, :, ::-1], IMAGES[:count])
    assert not is_asymmetric(images, LABELS[:count])


def test_one_class_with_a_side_among_others_without_is_enough() -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(300) % 10
    assert not is_asymmetric(images, labels)
    images[labels == 7, :, :4] //= 2
    assert is_asymmetric(images, labels)


def test_black_pictures_and_single_pictures_have_none() -> None:
    assert not is_asymmetric(np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 2)
    assert not is_asymmetric(np.arange(192, dtype=np.uint8).reshape(3, 8, 8, 1), np.arange(3))
