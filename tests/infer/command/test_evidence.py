"""cnn-infer --evidence: a drawing for each picture, with colours where the evidence is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier
from PIL import Image

Cli = Callable[..., Any]
Refused = Callable[..., str]
WARM, COLD = 1, -1


def tint(drawing: Path) -> np.ndarray:
    """For each pixel, 1 if it is orange, -1 if it is blue, 0 if it is grey, or nearly so, as where resizing mixes."""
    pixels = np.asarray(Image.open(drawing).convert("RGB")).astype(int)
    difference = pixels[:, :, 0] - pixels[:, :, 2]
    return np.sign(difference) * (np.abs(difference) > 40)


def halves(drawing: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    found = tint(drawing)
    return found[:, :width], found[:, -width:]


def red_above_blue(width: int, height: int) -> Image.Image:
    """Red in the upper half, blue in the lower left quarter, mid-grey elsewhere."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[: height // 2] = (255, 0, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    return Image.fromarray(pixels)


@pytest.fixture
def model(models: Path, tmp_path: Path, with_metadata: Callable[[str, str, str], bytes]) -> Callable[..., Path]:
    """Writes the model with another specification."""

    def write(**changes: object) -> Path:
        document = json.loads(Classifier(models / "optional.onnx").spec.to_json())
        path = tmp_path / "model.onnx"
        path.write_bytes(with_metadata("optional.onnx", "cnn.spec", json.dumps({**document, **changes})))
        return path

    return write


def test_each_picture_has_a_drawing_at_its_own_size(cli: Cli, models: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    red_above_blue(40, 24).save(pictures / "deep" / "a.png")
    red_above_blue(200, 120).save(pictures / "b.jpg", quality=95)
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(pictures / "deep" / "a.png", "inside/a.png")
    options = ("--model", models / "optional.onnx", "--format", "csv")
    plain = cli("pictures", "more.zip", *options)
    done = cli("pictures", "more.zip", *options, "--evidence", "why")
    assert done.stdout == plain.stdout
    assert b"evidence: 3 drawings in why; 1 picture could not be read; 8 x 8 cells (width x height), " in done.stderr
    assert b", each sees 1 x 1 pixels of the 8 x 8 input\n" in done.stderr
    found = {path.relative_to(tmp_path / "why").as_posix() for path in (tmp_path / "why").rglob("*") if path.is_file()}
    assert found == {"pictures/deep/a.png.png", "pictures/b.jpg.png", "more.zip/inside/a.png.png"}

    with Image.open(tmp_path / "why" / "pictures" / "deep" / "a.png.png") as small:
        assert small.size == (40 + 2 + 40, 24)
        assert small.text["Winner"].startswith("red: logit ")
        assert small.text["Runner-up"].startswith("grey: logit 2.0000 = bias 2.0000")
    winner, runner_up = halves(tmp_path / "why" / "pictures" / "deep" / "a.png.png", 40)
    assert (winner[:12] == WARM).all()
    assert (winner[15:, :15] == COLD).all()  # away from borders, where resizing mixes
    assert not winner[12:, 20:].any()
    assert not runner_up.any()

    with Image.open(tmp_path / "why" / "pictures" / "b.jpg.png") as large:
        assert large.width == 200 + 4 + 200
        caption = large.height - 120
        assert caption > 0
        assert np.asarray(large)[:caption].min() < 50  # it has text
    assert (tint(tmp_path / "why" / "pictures" / "b.jpg.png")[caption : caption + 55, :200] == WARM).all()


@pytest.mark.parametrize(
    ("resize", "size", "coloured"),
    [("crop", (48, 16), np.s_[:8, 16:32]), ("crop", (16, 48), np.s_[16:24, :]), ("pad", (48, 24), np.s_[:12, :])],
)
def test_the_colours_are_where_the_model_looks(
    cli: Cli, model: Callable[..., Path], tmp_path: Path, resize: str, size: tuple[int, int], coloured: Any
) -> None:
    red_above_blue(*size).save(tmp_path / "a.png")
    cli("a.png", "--model", model(resize=resize), "--evidence", "why")
    winner, _ = halves(tmp_path / "why" / "a.png.png", size[0])
    wanted = np.zeros(size[::-1], bool)
    wanted[coloured] = True
    np.testing.assert_array_equal(winner == WARM, wanted)


def test_a_picture_from_elsewhere_keeps_its_whole_path(
    cli: Cli, models: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.png"
    red_above_blue(8, 8).save(elsewhere)
    options = ("--model", models / "optional.onnx", "--evidence", "why")
    cli(elsewhere, *options)
    drawing = tmp_path / "why" / f"{elsewhere.relative_to('/')}.png"
    written = drawing.stat()
    done = cli(elsewhere, *options)
    assert b"evidence: 1 drawing in why, 1 of them by an earlier run; " in done.stderr
    info = cli("--info", *options[:2])
    assert b"each sees 1 x 1 pixels of the 8 x 8 input; cnn-infer --evidence FOLDER" in info.stdout
    assert drawing.stat().st_mtime_ns == written.st_mtime_ns


def test_two_pictures_with_the_same_drawing_are_refused(
    cli: Cli, models: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.png"
    red_above_blue(8, 8).save(elsewhere)
    inside = tmp_path / elsewhere.relative_to("/")
    inside.parent.mkdir(parents=True)
    red_above_blue(8, 9).save(inside)
    done = cli(elsewhere, inside, "--model", models / "optional.onnx", "--evidence", "why", code=2)
    assert b"would have the same drawing, why/" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("cells", "size", "note"),
    [
        (
            [8, 8],
            [8, 9],
            "a cell sees as much as the whole input: a drawing of its evidence says little about the place",
        ),
        ([1, 1], [3, 3], "1 cell: a drawing of its evidence cannot show a place"),
        ([8, 8], [8, 7], None),
    ],
    ids=["all of the input", "one cell", "less than the input"],
)
def test_what_a_drawing_cannot_show_is_said(
    cli: Cli, models: Path, model: Callable[..., Path], cells: list[int], size: list[int], note: str | None
) -> None:
    entry = Classifier(models / "optional.onnx").spec.details["evidence"]
    field = {**entry["receptive_field"], "size": size}
    path = model(details={"evidence": {**entry, "cells": cells, "receptive_field": field}})
    [line] = [line for line in cli("--info", "--model", path).stdout.decode().splitlines() if "evidence" in line]
    wanted = "" if note is None else f"; {note}"
    assert line.endswith(
        f"each sees {size[1]} x {size[0]} pixels of the 8 x 8 input{wanted}; cnn-infer --evidence FOLDER"
    )


def test_nothing_is_overwritten_or_searched_by_mistake(
    cli: Cli, refused: Refused, models: Path, tmp_path: Path
) -> None:
    for path in ("pictures/a.png", "full/pictures/a.png.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        red_above_blue(8, 8).save(tmp_path / path)
    (tmp_path / "file").write_bytes(b"")
    run = ("pictures", "--model", models / "optional.onnx", "--evidence")
    before = (tmp_path / "full/pictures/a.png.png").read_bytes()
    done = cli(*run, "full", code=2)
    assert b"full/pictures/a.png.png exists and is no drawing by this model" in done.stderr
    assert (tmp_path / "full/pictures/a.png.png").read_bytes() == before
    assert "pictures/why is in pictures, which is searched for pictures" in refused(*run, "pictures/why")
    assert "not a folder: file" in refused(*run, "file")
    assert "cnn-export --evidence" in refused("pictures", "--model", models / "rgb.onnx", "--evidence", "why")
    assert "no effect with --verify: --evidence" in refused(
        "--verify", "--model", models / "optional.onnx", "--evidence", "why"
    )
    assert not (tmp_path / "why").exists()


def test_a_drawing_of_another_picture_is_replaced(cli: Cli, models: Path, tmp_path: Path) -> None:
    """The picture was replaced under its name, or a picture of another working folder has the same name."""
    options = ("photos", "--model", models / "optional.onnx", "--evidence", tmp_path / "why")
    drawing = tmp_path / "why" / "photos" / "a.png.png"
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "photos").mkdir(parents=True)
    picture = tmp_path / "photos" / "a.png"
    red_above_blue(40, 24).save(picture)
    cli(*options)
    first = drawing.read_bytes()
    red_above_blue(40, 24).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(picture)
    assert b"evidence: 1 drawing in " in (done := cli(*options)).stderr
    assert b"earlier run" not in done.stderr
    assert drawing.read_bytes() != first
    second = drawing.stat().st_mtime_ns
    assert b"1 of them by an earlier run" in cli(*options).stderr
    assert drawing.stat().st_mtime_ns == second
    red_above_blue(40, 24).save(tmp_path / "other" / "photos" / "a.png")
    command = [sys.executable, "-m", "cnn_infer", *map(str, options)]
    subprocess.run(command, cwd=tmp_path / "other", check=True, capture_output=True)
    assert drawing.read_bytes() == first
    picture.write_bytes(b"damaged")
    assert b"evidence: 0 drawings in " in cli(*options, code=1).stderr
    assert not drawing.exists()


def test_a_large_picture_is_drawn_smaller(cli: Cli, models: Path, tmp_path: Path) -> None:
    Image.new("L", (6000, 3000), 128).save(tmp_path / "a.jpg")
    red_above_blue(2600, 8).save(tmp_path / "b.png")
    cli("a.jpg", "b.png", "--model", models / "optional.onnx", "--evidence", "why")
    for name, height in (("a.jpg.png", 1000), ("b.png.png", 6)):
        with Image.open(tmp_path / "why" / name) as drawn:
            assert drawn.size == (2000 + 40 + 2000, height + 100)
    winner, _ = halves(tmp_path / "why" / "b.png.png", 2000)
    assert (winner[100:102] == WARM).all()


def test_drawings_and_other_results_are_kept_apart(cli: Cli, refused: Refused, models: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    red_above_blue(8, 8).save(tmp_path / "photos" / "a.png")
    run = ("photos/**/*.png", "--model", models / "optional.onnx")
    for evidence in ("x", "x/why"):
        found = refused(*run, "--output", "x", "--evidence", evidence)
        assert f"{evidence} is the file x for other results, or in it: choose another folder for --evidence" in found
    assert not (tmp_path / "x").exists()
    cli(*run, "--evidence", "photos/why")
    found = refused(*run, "--evidence", "photos/why")
    assert "photos/why/photos/a.png.png is in photos/why, the folder for --evidence: choose another one" in found


def test_a_page_with_evidence_is_refused_before_the_run_if_its_description_is_damaged(
    refused: Refused, model: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("jinja2")
    red_above_blue(8, 8).save(tmp_path / "a.png")
    run = (
        "a.png",
        "--model",
        model(details={"evidence": {"cells": [8, 8]}}),
        "--html",
        "page.html",
        "--output",
        "rows",
    )
    assert "the model's cnn.spec does not describe its evidence: " in refused(*run)
    assert not (tmp_path / "rows").exists()
