"""benchmarks/train.py trains for real, writes a report, and draws reports."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train.py"
Benchmark = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Run the script with an empty home folder."""
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}

    def run(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, benchmark: Benchmark) -> Path:
    """The report of a row on the digits with one random seed."""
    path = tmp_path_factory.mktemp("results") / "train_digits.json"
    printed = benchmark("digits-nano", "--seeds", 3, "--steps", 2, "--output", path).stdout
    assert printed.startswith("digits-nano: 1 seed,")
    return path


def test_a_report_has_each_seed_and_the_conditions(file: Path) -> None:
    found: dict[str, Any] = json.loads(file.read_text())
    (run,) = found["runs"]
    assert run["seed"] == 3
    assert run["accuracy"] > 0.8
    assert run["accuracy"] == round(run["accuracy"] * 179) / 179  # the test split has 179 pictures
    assert 0 < run["seconds_of_epochs"] < run["seconds"]  # the time includes preparation
    assert run["plain_epochs"] == 2 * run["seconds"] / (run["plain_epoch_before"] + run["plain_epoch_after"])
    for key in ("accuracy", "seconds", "plain_epochs"):
        assert found[key] == {**dict.fromkeys(("mean", "median", "least", "most"), run[key]), "deviation": 0}
    assert (found["row"], found["epochs"], found["pictures"]["test"]) == ("digits-nano", 8, 179)
    assert found["command"] == "python benchmarks/train.py digits-nano --data digits --seeds 3"
    assert all(found[key] for key in ("machine", "versions", "commit", "parameters", "fingerprints"))
    assert found["reached"] == (found["accuracy"]["mean"] >= found["target"] and found["seconds"]["median"] <= 10)


def test_the_picture_is_drawn_from_the_results(file: Path, tmp_path: Path, benchmark: Benchmark) -> None:
    (tmp_path / "train_a.json").write_text(file.read_text())
    pictures = [tmp_path / name for name in ("first.png", "second.png")]
    benchmark("--draw", pictures[0], "--results", tmp_path)
    other = json.loads(file.read_text())
    other["accuracy"]["mean"] -= 0.3
    (tmp_path / "train_a.json").write_text(json.dumps(other))
    benchmark("--draw", pictures[1], "--results", tmp_path)
    first, second = (Image.open(path).convert("RGB") for path in pictures)
    assert min(first.size) > 300
    assert first.tobytes() != second.tobytes()
    assert all(path.stat().st_size < 150_000 for path in pictures)


def test_a_result_with_further_options_is_not_drawn(file: Path, tmp_path: Path, benchmark: Benchmark) -> None:
    tried = {**json.loads(file.read_text()), "more": ["--lr", "0.3"]}
    (tmp_path / "train_tried.json").write_text(json.dumps(tried))
    assert "nothing to draw" in benchmark("--draw", tmp_path / "none.png", "--results", tmp_path, code=1).stderr
    assert not (tmp_path / "none.png").exists()


def test_a_row_with_few_pictures_draws_them_by_the_seed(tmp_path: Path, benchmark: Benchmark) -> None:
    for split, count in (("train", 230), ("val", 4)):
        for name, colour in (("ants", (200, 90, 30)), ("bees", (30, 90, 200))):
            folder = tmp_path / "insects" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (*colour[:2], number)).save(folder / f"{number}.png")
    report, picture = tmp_path / "train_few.json", tmp_path / "few.png"
    row = ("ants-bees-scratch", "--data", tmp_path / "insects", "--seeds", 0, "--steps", 1, "--output", report)
    benchmark(*row, "--", "--epochs", 1, "--model", "nano")
    found = json.loads(report.read_text())
    assert found["pictures"] == {"train": 360, "val": 40, "test": 8}  # 200 of 230 in each class
    report.write_text(json.dumps({**found, "more": []}))
    benchmark("--draw-few", picture, "--results", tmp_path)
    assert min(Image.open(picture).size) > 300
