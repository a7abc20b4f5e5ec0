"""``--truth``: accuracy from a labels file, what it and the pictures lack of each other, and one line for mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import Classifier, evaluate

Cli = Callable[..., "subprocess.CompletedProcess[bytes]"]
RED, GREEN, BLUE = (220, 10, 10), (10, 220, 10), (10, 10, 220)


@pytest.fixture
def pictures(picture: Callable[..., Path], tmp_path: Path) -> Path:
    """Two red pictures, a green one, a blue one and a damaged one, in folders with the names of wrong classes."""
    for name, colour in (("grey/1.png", RED), ("grey/2.png", RED), ("blue/3.png", GREEN), ("4.png", BLUE)):
        picture(tmp_path / "photos" / name, colour)
    (tmp_path / "photos" / "5.png").write_bytes(b"damaged")
    return tmp_path / "photos"


def write(folder: Path, *rows: str, columns: str = "file_name,label") -> Path:
    (folder / "labels.csv").write_text("\n".join([columns, *rows]))
    return folder / "labels.csv"


def test_labels_come_from_the_file_in_place_of_folders(cli: Cli, models: Path, pictures: Path, tmp_path: Path) -> None:
    rows = ("grey/1.png,red", "grey/2,red", "blue/3.png,green", "5.png,red", "6.png,blue", "7.png,", "4.png,zebra")
    write(pictures, *rows, columns="image,colour")
    run = ("photos", "--model", models / "rgb.onnx", "--truth", "photos/labels.csv", "--columns", "image", "colour")
    done = cli(*run, "--report", "report.json", "--format", "csv")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["accuracy"], report["labelled"], report["errors"], report["unknown_folders"]) == (1, 3, 1, {})
    assert report["per_class"]["red"]["support"] == 2
    assert report["truth"] == {
        "file": "photos/labels.csv",
        "pictures": 6,
        "without_row": 0,
        "other_labels": {"zebra": 1},
        "without_picture": 1,
    }
    said = done.stderr.decode()
    assert "labels that are no class of the model, not counted: zebra (1)\n" in said
    assert "1 label in photos/labels.csv without a picture here\n" in said
    plain = cli(*run[:3], "--format", "csv")
    assert done.stdout == plain.stdout  # rows do not depend on labels


def test_pictures_without_a_row_are_not_labelled_wherever_they_are_named(
    rgb: Classifier, pictures: Path, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outside = picture(tmp_path / "elsewhere" / "1.png", RED)
    truth = write(pictures, "grey/1.png,green", "blue/3.png,green")
    monkeypatch.chdir(pictures / "grey")
    for paths in (
        ["..", outside],
        [pictures, outside],
        [pictures / "blue" / ".." / "*" / "*.png", outside, "../4.png"],
    ):
        found = evaluate(rgb, paths, truth=truth)
        assert (found.labelled, found.accuracy) == (2, 0.5)
        assert found.truth is not None
        assert (found.truth["without_row"], found.truth["without_picture"]) == (3, 0)


def test_an_interrupted_run_keeps_its_counts_and_refuses_other_labels(
    cli: Cli, refused: Callable[..., str], models: Path, pictures: Path, tmp_path: Path
) -> None:
    write(pictures, "grey/1.png,red", "grey/2.png,zebra", "blue/3.png,green")
    run = ("photos", "--model", models / "rgb.onnx", "--truth", "photos/labels.csv", "--format", "csv")
    cli(*run, "--output", "whole.csv", "--report", "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    stop = "import sys; from cnn_infer.command import growing_file, cli; row = growing_file.GrowingFile.row\n"
    stop += "def two(file, text, counted):\n    row(file, text, counted)\n"
    stop += "    if file.rows == 3: file.save(counted); import os; os._exit(9)\n"
    stop += "growing_file.GrowingFile.row = two; cli.main()"
    arguments = [*map(str, run), "--output", "part.csv", "--report", "part.json"]
    done = subprocess.run([sys.executable, "-c", stop, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    write(pictures, "grey/1.png,green", "grey/2.png,zebra", "blue/3.png,green")
    assert "the labels file" in refused(*arguments, "--resume")
    write(pictures, "grey/1.png,red", "grey/2.png,zebra", "blue/3.png,green")
    cli(*arguments, "--resume")
    assert (tmp_path / "part.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    part = json.loads((tmp_path / "part.json").read_text())
    assert {key: part[key] for key in ("truth", "confusion", "accuracy")} == {
        key: whole[key] for key in ("truth", "confusion", "accuracy")
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--truth", "none.csv"), "cannot read none.csv: No such file or directory"),
        (("--truth", "twice.csv"), "twice.csv line 3 gives 4.png a second label: leave one row per picture"),
        (("--truth", "empty.csv"), "no row of empty.csv has a label"),
        (
            ("--truth", "other.csv"),
            "no label in other.csv is a class of the model, such as 'cat': the classes are red,",
        ),
        (("--truth", "other.csv", "--columns", "a", "b"), "other.csv has no column 'a' and no 'b'; it has 'file_name'"),
        (("--columns", "a", "b"), "no effect without --truth: --columns"),
        (("--truth", "other.csv", "--labels", "none"), "no effect with --labels none: --truth"),
        (("--truth", "other.csv", "--latency"), "no effect with --latency: --truth"),
        (("--truth", "other.csv", "--output", "other.csv"), "other.csv is also an input"),
    ],
)
def test_mistakes_are_one_line(
    refused: Callable[..., str], models: Path, pictures: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    for name, rows in (("twice", "4.png,red\n4.png,blue"), ("empty", "4.png,"), ("other", "4.png,cat")):
        (tmp_path / f"{name}.csv").write_text(f"file_name,label\n{rows}\n")
    assert reason in refused("photos", "--model", models / "rgb.onnx", *arguments)


@pytest.mark.parametrize(
    ("started", "resumed"), [(["--truth", "photos/labels.csv"], []), ([], ["--truth", "photos/labels.csv"])]
)
def test_a_run_is_resumed_with_the_labels_file_that_it_was_started_with(
    cli: Cli, models: Path, pictures: Path, tmp_path: Path, started: list[str], resumed: list[str]
) -> None:
    write(pictures, "grey/1.png,red")
    run = ("photos", "--model", str(models / "rgb.onnx"), "--format", "csv", "--output", "rows.csv")
    interrupted = (
        "import os\nfrom cnn_infer.command import growing_file\ngrowing_file.SAVE_SECONDS = 0\n"
        "growing_file.GrowingFile.finish = lambda self: os._exit(9)\nfrom cnn_infer.__main__ import main; main()"
    )
    command = [sys.executable, "-c", interrupted, *run, *started]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 9
    done = cli(*run, *resumed, "--resume", code=2)
    assert b"the labels file changed since " in done.stderr
    cli(*run, *started, "--resume")
