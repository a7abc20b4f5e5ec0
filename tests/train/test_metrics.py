"""Temperature calibration and the metrics of a split."""

import numpy as np
import pytest
from cnn_infer.metrics import wilson_interval
from cnn_train.metrics import (
    cross_entropy,
    fit_temperature,
    metrics_of,
    pixel_digest,
    probabilities_of,
)
from sklearn.metrics import log_loss


def miscalibrated(factor: float, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the softmax of logits, and those logits times ``factor``."""
    random = np.random.default_rng(3)
    logits = random.normal(0, 2, (count, 6))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return (factor * logits).astype(np.float32), labels


def loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    shares = np.exp(logits.astype(np.float64) / temperature)
    return float(log_loss(labels, shares / shares.sum(axis=1, keepdims=True), labels=range(6)))


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0, 4.5])
def test_the_temperature_undoes_over_and_underconfidence(factor: float) -> None:
    logits, labels = miscalibrated(factor)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(factor, rel=0.08)
    best = loss(logits, labels, found)
    for other in (found * 0.97, found * 1.03, found * 0.5, found * 2):
        assert best < loss(logits, labels, other)
    assert best <= loss(logits, labels, 1.0) + 1e-9


def test_the_temperature_is_one_where_the_pictures_do_not_determine_it() -> None:
    logits = np.eye(6, dtype=np.float32)
    right, wrong = np.arange(6), (np.arange(6) + 1) % 6
    assert fit_temperature(logits, right) == 1
    assert fit_temperature(logits, wrong) == 1
    assert fit_temperature(*miscalibrated(8.0)) == 1


def test_probabilities_and_loss_are_those_of_divided_logits() -> None:
    logits, labels = miscalibrated(2.0, 50)
    shares = np.exp(logits.astype(np.float64) / 1.7)
    expected = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities_of(logits, 1.7), expected, atol=1e-6)
    assert cross_entropy(logits, labels) == pytest.approx(loss(logits, labels, 1.0))
    assert np.isfinite(cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([1])))


def test_classes_without_pictures_or_predictions_count_as_zero() -> None:
    logits = np.array([[2, 1, 0], [2, 1, 0], [0, 1, 2]], np.float32)
    found = metrics_of(logits, np.array([0, 1, 1]), ("cat", "dog", "accuracy"))
    assert found["confusion"] == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert found["correct"] == 1
    assert found["per_class"]["accuracy"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["per_class"]["cat"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}


def test_the_digest_tells_pixels_order_and_shape_apart() -> None:
    images = np.arange(5000 * 4, dtype=np.uint32).astype(np.uint8).reshape(5000, 2, 2, 1)
    images[4999] = 9
    other = images.copy()
    other[4500, 1, 1, 0] ^= 1
    swapped = images.copy()
    swapped[[0, 4999]] = swapped[[4999, 0]]
    digests = {pixel_digest(array) for array in (images, other, swapped, images.reshape(5000, 1, 4, 1))}
    assert len(digests) == 4
    assert pixel_digest(images.copy()) == pixel_digest(images)


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 20), (19, 20), (20, 20), (7, 50), (9278, 10_000)])
def test_the_interval_of_a_share_is_wilsons(correct: int, total: int) -> None:
    """The shares at which a normal test of ``correct`` would reach p = 0.05: the roots of its quadratic equation."""
    z, share = 1.959963984540054, correct / total
    roots = np.roots([1 + z**2 / total, -(2 * share + z**2 / total), share**2])
    assert wilson_interval(correct, total) == pytest.approx(sorted(roots.real), abs=1e-7)
