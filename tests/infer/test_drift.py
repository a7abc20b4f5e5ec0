"""The test whether pictures are like those of validation: its p, its histogram, and what the command says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier
from cnn_infer.drift import BINS, TopProbabilities, compare, histogram_of, p_value, validation_of
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
ALIKE, UNLIKE = range(100, 150), range(40)  # brightness: the model is less sure of the first than of the second
BETWEEN = range(94, 98)  # between dark and middle


@pytest.fixture(scope="module")
def noisy_pixels() -> Callable[[int], np.ndarray]:
    """Returns a picture for the model ``grey.onnx`` with about this brightness."""
    random = np.random.default_rng(0)
    return lambda mean: np.clip(random.normal(mean, 20, (8, 8, 1)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def histogram(grey: Classifier, noisy_pixels: Callable[[int], np.ndarray]) -> TopProbabilities:
    """The histogram of 500 pictures of the brightness ALIKE."""
    pictures = np.stack([noisy_pixels(ALIKE[number % len(ALIKE)]) for number in range(500)])
    return histogram_of(grey.probabilities(pictures).max(axis=1))


@pytest.fixture
def model(
    tmp_path: Path, grey: Classifier, histogram: TopProbabilities, with_metadata: Callable[[str, str, str], bytes]
) -> Path:
    """``grey.onnx`` with the histogram in its certificate."""
    spec = json.loads(grey.spec.to_json())
    spec["details"]["parity"] = {"top_probability": histogram.to_json()}
    path = tmp_path / "model.onnx"
    path.write_bytes(with_metadata("grey.onnx", "cnn.spec", json.dumps(spec)))
    return path


@pytest.fixture
def folder(tmp_path: Path, noisy_pixels: Callable[[int], np.ndarray]) -> Callable[[str, range, int], str]:
    """Saves pictures with a brightness from a range in a folder."""

    def save(name: str, brightness: range, count: int) -> str:
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = noisy_pixels(brightness[number % len(brightness)])[:, :, 0]
            Image.fromarray(pixels).save(tmp_path / name / f"{number:04}.png")
        return name

    return save


def drift_of(cli: Run, tmp_path: Path, model: Path, *arguments: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The drift in the report, and the lines on it in the summary."""
    done = cli(*arguments, "--model", model, "--report", "report.json")
    lines = [line for line in done.stderr.decode().splitlines() if "validation pictures" in line]
    return json.loads((tmp_path / "report.json").read_text())["drift"], lines


@pytest.mark.parametrize(("first", "second"), [(30, 100), (200, 179), (1000, 5000)])
def test_p_is_that_of_scipy_and_never_smaller_than_the_exact_one(first: int, second: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(first)
    for shift in (0, 0.1, 0.3):
        one, other = random.normal(0, 1, first), random.normal(shift, 1, second)
        limit = stats.ks_2samp(one, other, method="asymp")
        exact = stats.ks_2samp(one, other, method="exact")
        found = p_value(limit.statistic, first, second)
        assert found >= exact.pvalue - 1e-9
        assert found == pytest.approx(limit.pvalue, abs=0.09 if first == 30 else 0.025)
    assert p_value(0, first, second) == 1
    assert p_value(1, first, second) < 1e-9


def test_the_binned_statistic_is_close_to_the_exact_one_and_never_larger() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for spread in (0.5, 3, 30):  # the last: most probabilities are 1
        one, other = (1 / (1 + np.exp(-random.normal(2, spread, count))) for count in (5000, 700))
        validation = histogram_of(one)
        run = TopProbabilities(validation.edges)
        for value in other.tolist():
            run.add(value)
        found, exact = compare(validation, run), stats.ks_2samp(one, other).statistic
        assert found is not None
        assert exact - 2 / BINS <= found.statistic <= exact + 1e-12
        assert len(validation.edges) <= BINS
        assert validation.images == 5000


def test_equal_probabilities_are_no_problem() -> None:
    validation = histogram_of(np.ones(50))
    run = TopProbabilities(validation.edges)
    for _ in range(40):
        run.add(1.0)
    found = compare(validation, run)
    assert found is not None
    assert (found.statistic, found.p, found.direction, found.differs) == (0, 1, "equal", False)
    assert compare(validation, TopProbabilities(validation.edges)) is None


def test_other_pictures_are_named_and_those_of_training_are_not(
    tmp_path: Path, cli: Run, model: Path, folder: Callable[[str, range, int], str]
) -> None:
    found, lines = drift_of(cli, tmp_path, model, folder("alike", ALIKE, 200))
    assert not lines
    assert found is not None
    assert not found["differs"]
    assert (found["images"], found["validation_images"]) == (200, 500)
    found, lines = drift_of(cli, tmp_path, model, folder("unlike", UNLIKE, 200))
    assert found is not None
    assert found["differs"]
    assert found["direction"] == "more sure"
    assert found["statistic"] > 0.5
    assert len(lines) == 1
    assert "the model is more sure of these, by more than chance (Kolmogorov-Smirnov D 1.00" in lines[0]
    assert ", p < 1e-6, n 200 and 500)" in lines[0]
    found, lines = drift_of(cli, tmp_path, model, folder("between", BETWEEN, 200))
    assert found is not None
    assert found["direction"] == "less sure"
    assert "the model is less sure of these" in lines[0]


def test_a_few_pictures_say_nothing_but_are_in_the_report(
    tmp_path: Path, cli: Run, model: Path, folder: Callable[[str, range, int], str]
) -> None:
    found, lines = drift_of(cli, tmp_path, model, folder("unlike", UNLIKE, 29))
    assert found is not None
    assert found["p"] < 0.001
    assert not found["differs"]
    assert not lines


def test_a_resumed_run_counts_the_rows_before_it(
    tmp_path: Path, cli: Run, model: Path, folder: Callable[[str, range, int], str]
) -> None:
    """The manifest is that of a run that was killed after 150 rows."""
    name = folder("unlike", UNLIKE, 200)
    arguments = (name, "--output", "rows.csv", "--format", "csv", "--batch-size", "8")
    wanted, lines = drift_of(cli, tmp_path, model, *arguments)
    assert lines
    script = (
        "import sys; from cnn_infer.command import growing_file; from cnn_infer.__main__ import main\n"
        "growing_file.SAVE_SECONDS = 0; row = growing_file.GrowingFile.row\n"
        "def stop(self, *given):\n"
        "    row(self, *given)\n"
        "    if self.rows == 150: import os; os._exit(3)\n"
        "growing_file.GrowingFile.row = stop; main()"
    )
    command = [sys.executable, "-c", script, *arguments, "--model", str(model)]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 3
    manifest = tmp_path / "rows.csv.manifest.json"
    counted = json.loads(manifest.read_text())["counted"]
    assert sum(counted["top"]) == counted["images"] > 100
    found, again = drift_of(cli, tmp_path, model, *arguments, "--resume")
    assert (found, again) == (wanted, lines)
    assert not manifest.exists()


def test_models_without_the_histogram_say_nothing(
    tmp_path: Path, models: Path, cli: Run, folder: Callable[[str, range, int], str]
) -> None:
    assert drift_of(cli, tmp_path, models / "grey.onnx", folder("unlike", UNLIKE, 200)) == (None, [])


@pytest.mark.parametrize(
    "damage",
    [
        {"edges": [0.5, 0.4], "counts": [1, 2]},
        {"edges": [0.5, 1.0], "counts": [1]},
        {"edges": [0.5, 1.0], "counts": [1, -2]},
        {"edges": [0.5, float("nan")], "counts": [1, 2]},
        {"edges": [0.5, "1"], "counts": [1, 2]},
        {"edges": [], "counts": []},
        {"edges": [1.0], "counts": [0]},
        {"edges": [True], "counts": [True]},
        {},
        "text",
        None,
    ],
)
def test_a_damaged_histogram_counts_as_missing(damage: object) -> None:
    assert validation_of({"parity": {"top_probability": damage}}) is None
    assert validation_of({"parity": damage}) is None
    assert validation_of({}) is None
