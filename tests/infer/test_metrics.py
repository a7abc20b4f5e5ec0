"""Metrics equal those of scikit-learn, also if classes are missing or never predicted."""

from __future__ import annotations

import numpy as np
import pytest
from cnn_infer.metrics import summarise

NAMES = tuple("abcdef")


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(NAMES), len(NAMES)), np.int64)
    np.add.at(matrix, (truth, found), 1)
    return matrix


@pytest.mark.parametrize("true_classes", [range(6), (0, 2, 5), (1,)], ids=str)
@pytest.mark.parametrize("found_classes", [range(6), (0, 1, 3), (4,), (1,)], ids=str)
@pytest.mark.parametrize("share_unknown", [0.0, 0.2, 1.0])
def test_metrics_equal_those_of_scikit_learn(true_classes: range, found_classes: range, share_unknown: float) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(len(true_classes) * 10 + len(found_classes))
    truth, found = rng.choice(true_classes, 200), rng.choice(found_classes, 200)
    found = np.where(rng.random(200) < 0.5, truth, found) if len(found_classes) == 6 else found
    named = rng.random(200) >= share_unknown
    unknown = np.bincount(truth[~named], minlength=6)
    got = summarise(confusion(truth[named], found[named]), unknown, NAMES)

    found = np.where(named, found, 6)  # unknown is a seventh class that is never correct
    assert got["labelled"] == 200
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(truth, found))
    assert got["coverage"] == pytest.approx(named.mean())
    np.testing.assert_array_equal(
        got["confusion"], metrics.confusion_matrix(truth, found, labels=list(range(7)))[:6, :6]
    )
    wanted = metrics.precision_recall_fscore_support(truth, found, labels=list(range(6)), zero_division=0)
    for index, name in enumerate(NAMES):
        row = got["per_class"][name]
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(
            [column[index] for column in wanted]
        )
        assert row["unknown"] == unknown[index]
    occur = sorted(set(truth) | set(found[named]))
    for average in ("macro", "weighted"):
        want = metrics.f1_score(truth, found, labels=occur, average=average, zero_division=0)
        assert got[f"{average}_f1"] == pytest.approx(want)
    if share_unknown == 0:  # then the default of scikit-learn averages the same classes
        assert got["macro_f1"] == pytest.approx(metrics.f1_score(truth, found, average="macro"))


def test_metrics_computed_by_hand() -> None:
    got = summarise(np.array([[3, 1], [2, 4]]), np.array([0, 2]), ("a", "b"))
    assert got["accuracy"] == pytest.approx(7 / 12)
    assert got["coverage"] == pytest.approx(10 / 12)
    a, b = got["per_class"]["a"], got["per_class"]["b"]
    assert a == pytest.approx({"precision": 3 / 5, "recall": 3 / 4, "f1": 6 / 9, "support": 4, "unknown": 0})
    assert b == pytest.approx({"precision": 4 / 5, "recall": 4 / 8, "f1": 8 / 13, "support": 8, "unknown": 2})
    assert got["macro_f1"] == pytest.approx((6 / 9 + 8 / 13) / 2)
    assert got["weighted_f1"] == pytest.approx((4 * 6 / 9 + 8 * 8 / 13) / 12)
