"""The report: true classes by folder names, metrics, and the fields of the JSON document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, Row, evaluate

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
CLASSES = ["red", "green", "blue", "grey"]  # the model's order; folders come as blue, green, grey, red
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220), "grey": (120, 120, 120)}
TRUTH = ["red"] * 3 + ["green"] * 2 + ["blue"] * 4
SHOWN = ["red", "red", "blue", "green", "red", "blue", "blue", "blue", "grey"]


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Pictures in folders named by TRUTH with the colours of SHOWN; no folder for grey, one without a class."""
    for index, (truth, shown) in enumerate(zip(TRUTH, SHOWN, strict=True)):
        picture(tmp_path / "in" / truth / f"{index}.png", COLOURS[shown])
    for index in range(2):
        picture(tmp_path / "in" / "violet" / f"{index}.png", COLOURS["blue"])
    (tmp_path / "in" / "red" / "broken.png").write_bytes(b"")
    return tmp_path / "in"


def report(cli: Run, tmp_path: Path, *arguments: object) -> dict[str, Any]:
    cli("in", *arguments, "--report", "report.json", "--format", "csv")
    return json.loads((tmp_path / "report.json").read_text())


def test_the_report_has_all_fields(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    found = report(cli, tmp_path, "--model", models / "rgb.onnx", "--threads", "3", "--batch-size", "4")
    assert (found["images"], found["errors"], found["labelled"]) == (12, 1, 9)
    assert found["accuracy"] == pytest.approx(6 / 9)
    assert found["coverage"] == 1
    assert found["confusion"] == [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 3, 1], [0, 0, 0, 0]]
    assert list(found["per_class"]) == CLASSES
    assert found["per_class"]["red"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3, "unknown": 0}
    )
    assert found["macro_f1"] == pytest.approx(np.mean([2 / 3, 2 / 3, 3 / 4, 0]))
    assert found["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 2 / 3 + 4 * 3 / 4) / 9)
    assert found["unknown_folders"] == {"violet": 2}
    assert found["missing_classes"] == ["grey"]
    for part in ("model", "total"):
        figures = found["latency_ms"][part]
        assert list(figures) == ["p50", "p90", "p99", "mean", "n"]
        assert figures["n"] == 11
        assert 0 < figures["p50"] <= figures["p90"] <= figures["p99"]
    assert found["latency_ms"]["model"]["mean"] < found["latency_ms"]["total"]["mean"]
    assert found["images_per_second"] > 0
    assert (found["provider"], found["precision"]) == ("CPUExecutionProvider", "fp32")
    assert (found["threads"], found["batch_size"]) == (3, 4)
    assert found["model"] == str(models / "rgb.onnx")
    assert found["machine"]


def test_the_summary_on_standard_error(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("in", "--model", models / "rgb.onnx", "--report", "report.json")
    text = done.stderr.decode()
    assert "11 pictures classified, 1 could not be read" in text
    assert "accuracy 66.67%, macro F1 0.5208, weighted F1 0.7037 on 9 labelled pictures (coverage 100.00%)" in text
    assert "folders without the name of a class, not counted: violet (2)" in text
    assert "classes without a picture: grey" in text
    assert "wrote report.json" in text
    assert b"accuracy" not in done.stdout


def test_labels_are_mapped_by_folder_name_at_any_depth(
    models: Path, tmp_path: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    for number, name in enumerate(CLASSES):
        picture(tmp_path / f"part{number}" / "deep" / name / "a.png", COLOURS[name])
    cli(*(f"part{n}" for n in (3, 1, 0, 2)), "--model", models / "rgb.onnx", "--report", "r.json", "--output", "o")
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["accuracy"] == 1
    assert found["confusion"] == np.eye(4, dtype=int).tolist()
    assert (found["unknown_folders"], found["missing_classes"]) == ({}, [])


def test_the_first_folder_with_the_name_of_a_class_counts(
    models: Path, tmp_path: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    """As in training, pictures in nested folders belong to the class of the folder above, whatever the nested names."""
    for name in ("red/kitchen/a.png", "red/blue/b.png", "red/c.png", "blue/kitchen/grey/d.png", "attic/e.png"):
        picture(tmp_path / "green" / "test" / name, COLOURS[Path(name).parts[0]] if "attic" not in name else "red")
    options = ("--model", models / "rgb.onnx", "--report", "r.json", "--output", "o")

    def support(*paths: str) -> tuple[list[int], dict[str, int]]:
        cli(*paths, *options)
        found = json.loads((tmp_path / "r.json").read_text())
        return [sum(row) for row in found["confusion"]], found["unknown_folders"]

    assert support("green/test") == ([3, 0, 1, 0], {"attic": 1})
    assert support("green/test/") == ([3, 0, 1, 0], {"attic": 1})
    assert support("green/test/red") == ([2, 0, 1, 0], {})  # below the folder first, then the folder itself
    assert support("green") == ([3, 1, 1, 0], {})
    assert support("green/test/red/c.png", "green/test/red/kitchen/a.png") == ([1, 0, 0, 0], {"kitchen": 1})
    assert json.loads((tmp_path / "r.json").read_text())["accuracy"] == 1


def test_without_labels_there_are_no_metrics(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    found = report(cli, tmp_path, "--model", models / "rgb.onnx", "--labels", "none")
    metrics = ("accuracy", "coverage", "macro_f1", "weighted_f1", "per_class", "confusion")
    assert [found[key] for key in metrics] == [None] * 6
    assert (found["labelled"], found["unknown_folders"], found["missing_classes"]) == (0, {}, [])
    assert found["images"] == 12
    for name in ("red", "green", "blue"):
        os.replace(folder / name, folder / f"no {name}")
    assert report(cli, tmp_path, "--model", models / "rgb.onnx")["accuracy"] is None


def test_unknown_counts_as_wrong(folder: Path, rgb: Classifier, models: Path, tmp_path: Path, cli: Run) -> None:
    strict = Classifier(rgb.model, threshold=0.9)  # the grey picture among the blue ones falls below
    found = evaluate(strict, [folder])
    assert found.accuracy == pytest.approx(6 / 9)
    assert found.coverage == pytest.approx(8 / 9)
    assert found.per_class is not None
    assert (found.per_class["blue"]["unknown"], found.per_class["blue"]["support"]) == (1, 4)
    assert found.per_class["blue"]["recall"] == pytest.approx(3 / 4)
    assert found.confusion == [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]]
    assert report(cli, tmp_path, "--model", models / "rgb.onnx", "--threshold", "0.9")["coverage"] == found.coverage
    nothing = evaluate(Classifier(rgb.model, threshold=1.0), [folder])
    assert (nothing.accuracy, nothing.coverage, nothing.macro_f1) == (0, 0, 0)


def test_from_python_rows_come_in_order(folder: Path, rgb: Classifier) -> None:
    rows: list[Row] = []
    found = evaluate(rgb, [folder], batch_size=2, threads=2, on_row=rows.append)
    assert [row.path for row in rows] == sorted(map(str, folder.rglob("*.png")))
    assert found.images == len(rows) == 12
    assert [row.error for row in rows if row.prediction is None] == ["the file is empty"]
    assert json.loads(found.to_json())["images"] == 12
    with pytest.raises(InputError, match="no pictures found"):
        evaluate(rgb, [])


def test_relative_paths_have_a_folder_too(folder: Path, models: Path, cli: Run, tmp_path: Path) -> None:
    code = (
        "import sys; from cnn_infer import *; "
        "print(evaluate(Classifier(sys.argv[1]), ['6.png', '../red/0.png']).confusion)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, models / "rgb.onnx"],
        cwd=folder / "blue",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]\n"


def test_a_model_of_any_name_can_be_reported(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    name = os.fsencode(tmp_path) + b"/mod\xe8le.onnx"
    with open(name, "wb") as stream:
        stream.write((models / "rgb.onnx").read_bytes())
    assert report(cli, tmp_path, "--model", name)["model"].endswith("/mod\\xe8le.onnx")


def test_strict_fails_after_all_files_are_written(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    arguments = ("in", "--model", models / "rgb.onnx", "--output", "rows.csv", "--report", "r.json", "--format", "csv")
    done = cli(*arguments, "--strict", code=1)
    assert done.stderr.decode().splitlines()[-1] == "cnn-infer: 1 of 12 pictures could not be read (--strict)"
    assert (tmp_path / "rows.csv").read_bytes().count(b"\n") == 13
    assert json.loads((tmp_path / "r.json").read_text())["errors"] == 1
    (folder / "red" / "broken.png").unlink()
    cli(*arguments, "--strict")
    (tmp_path / "one.png").touch()
    done = cli("one.png", "--model", models / "rgb.onnx", "--strict", code=1)
    assert done.stderr.decode().splitlines()[-1] == "cnn-infer: 1 of 1 picture could not be read (--strict)"


def test_no_readable_picture_gives_exit_code_1(models: Path, tmp_path: Path, cli: Run) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"")
    done = cli("a.jpg", "b.png", "--model", models / "rgb.onnx", "--format", "csv", "--report", "r.json", code=1)
    assert done.stdout.count(b"the file is empty") == 2
    assert done.stderr.decode().splitlines()[-1] == "cnn-infer: none of the pictures could be read"
    assert json.loads((tmp_path / "r.json").read_text())["latency_ms"]["total"]["n"] == 0
