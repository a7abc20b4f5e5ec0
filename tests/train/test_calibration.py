"""Calibration against scikit-learn, the exact interval against SciPy, and where a training stores them."""

import json

import numpy as np
import pytest
from cnn_infer.calibration import BINS, calibration_of
from cnn_infer.metrics import exact_interval
from cnn_train import Run, plots
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (10, 3.0), (40, 0.2)])
def test_the_figures_are_those_of_scikit_learn(classes: int, sharpness: float) -> None:
    random = np.random.default_rng(classes)
    logits = sharpness * random.normal(size=(3000, classes))
    probabilities = softmax(logits, axis=1).astype(np.float32)
    labels = np.array([random.choice(classes, p=row) for row in softmax(0.7 * logits, axis=1)])
    found = calibration_of(probabilities, labels)
    right, top = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1)
    accuracy, confidence = calibration_curve(right, top, n_bins=BINS, strategy="uniform")
    bins = [part for part in found["bins"] if part["count"]]
    assert [part["accuracy"] for part in bins] == pytest.approx(accuracy)
    assert [part["confidence"] for part in bins] == pytest.approx(confidence)
    counts = np.histogram(top, bins=BINS, range=(0, 1))[0]
    assert [part["count"] for part in found["bins"]] == counts.tolist()
    assert found["ece"] == pytest.approx((counts[counts > 0] / 3000 * np.abs(accuracy - confidence)).sum())
    brier = brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False)
    assert found["brier"] == pytest.approx(brier, rel=1e-5)
    assert found["images"] == 3000


def test_the_edges_of_the_bins() -> None:
    rows = np.array([[1, 0], [0.5, 0.5], [0.6, 0.4], [0.61, 0.39]], np.float64)
    found = calibration_of(rows, np.array([0, 1, 0, 0]))
    assert [part["count"] for part in found["bins"]] == [0] * 7 + [1, 1, 1, 0, 0, 0, 0, 1]  # 0.6 is 9/15: in bin 8
    assert found["bins"][7]["accuracy"] == 0  # of two equal probabilities, the first class is the answer


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (87, 9312), (4_999, 10_000), (12_000, 1_000_000)]
)
def test_the_exact_interval_is_that_of_scipy(count: int, total: int) -> None:
    for confidence in (0.95, 0.9):
        wanted = binomtest(count, total).proportion_ci(confidence, method="exact")
        assert exact_interval(count, total, confidence) == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-12)


def test_a_training_reports_the_calibration_of_its_test_split(finished: Run) -> None:
    found = json.loads((finished.path / "report.json").read_text())["test"]["calibration"]
    assert found["images"] == finished.report["test"]["images"]
    assert 0 < found["ece"] < 1
    assert 0 < found["brier"] < 2
    # each bin's accuracy is a share of its pictures, and together they are the accuracy of the test split
    right = sum(part["count"] * part["accuracy"] for part in found["bins"] if part["count"])
    assert right == pytest.approx(finished.report["test"]["correct"])
    assert (finished.path / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_all_models_and_leaves_empty_bins_out() -> None:
    random = np.random.default_rng(0)
    probabilities = softmax(random.normal(size=(200, 4)), axis=1)
    names = ("fp32", "fp16", "int8")
    found = {name: calibration_of(probabilities, random.integers(0, 4, 200)) for name in names}
    upper, lower = plots.reliability(found, "title").axes
    filled = sum(part["count"] > 0 for part in found["fp32"]["bins"])
    drawn = {container.get_label().partition(":")[0]: container for container in upper.containers}
    assert set(drawn) == {*names}
    assert len({container.lines[0].get_color() for container in drawn.values()}) == 3
    with pytest.raises(ValueError, match="shorter"):
        plots.reliability({**found, "fp8": found["fp16"]}, "title")
    assert len(drawn["fp32"].lines[0].get_xdata()) == filled < BINS
    assert upper.get_title() == "title"
    assert lower.get_ylabel() == "pictures"


@pytest.mark.parametrize("count", [12, 3000])
def test_the_axis_of_counts_has_plain_numbers_and_sure_answers_are_inside_the_frame(count: int) -> None:
    sure = np.tile(np.float32((1, 0)), (count, 1))
    figure = plots.reliability({"fp32": calibration_of(sure, np.zeros(count, np.int64))}, "title")
    figure.draw_without_rendering()
    upper, lower = figure.axes
    low, high = lower.get_ylim()
    texts = [text.get_text() for text in lower.get_yticklabels() if low <= text.get_position()[1] <= high]
    assert len(texts) > 2
    assert all(text.replace(",", "").isdigit() for text in texts)
    assert upper.get_xlim()[1] > 1 < upper.get_ylim()[1]
