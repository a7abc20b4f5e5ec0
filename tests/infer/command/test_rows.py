"""Rows: one per file, in order, the same bytes each time, and nothing else on standard output."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cnn_infer import Prediction, Row, open_model
from cnn_infer.rows import formatter

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220)}
FIELDS = ["path", "label", "index", "probability", "top", "error"]
NAMES = ["a b.png", "line\nbreak.png", "return\rhere.png", 'quote",.png', "ümlaut.png", "z\\x.png", "\u2028.png"]


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Pictures with difficult names, a file that is no picture, and one whose name is not UTF-8."""
    for index, name in enumerate(NAMES):
        picture(tmp_path / "in" / name, list(COLOURS.values())[index % 3], (9 + index, 8))
    (tmp_path / "in" / "text.jpg").write_text("no picture")
    path = picture(tmp_path / "last.png", COLOURS["blue"])
    os.replace(path, os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    return tmp_path / "in"


def wanted(folder: Path) -> list[tuple[str, str | None]]:
    """Path and label of each file of the folder, in order."""
    names: list[tuple[bytes, str, str | None]] = [
        (name.encode(), name, list(COLOURS)[index % 3]) for index, name in enumerate(NAMES)
    ]
    names += [(b"text.jpg", "text.jpg", None), (b"caf\xe9.png", "caf\\xe9.png", "blue")]
    return [(f"in/{printed}", label) for _, printed, label in sorted(names)]


def from_csv(data: bytes) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
    rows: list[dict[str, Any]] = list(reader)
    assert reader.fieldnames == FIELDS
    for row in rows:
        for key in ("index", "probability", "top"):
            row[key] = json.loads(row[key]) if row[key] else None
        row["label"], row["error"] = row["label"] or None, row["error"] or None
    return rows


def from_jsonl(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n")
    rows = [json.loads(line) for line in data.decode()[:-1].split("\n")]
    assert all(list(row) == FIELDS for row in rows)
    return rows


@pytest.mark.parametrize(("form", "parse"), [("csv", from_csv), ("jsonl", from_jsonl)])
def test_machine_formats_are_read_back(
    folder: Path, models: Path, cli: Run, form: str, parse: Callable[[bytes], list[dict[str, Any]]]
) -> None:
    done = cli("in", "--model", models / "rgb.onnx", "--format", form)
    rows = parse(done.stdout)
    assert [(row["path"], row["label"]) for row in rows] == wanted(folder)
    for row in rows:
        if row["path"] == "in/text.jpg":
            assert [row[key] for key in FIELDS[1:5]] == [None] * 4
            assert row["error"] == "not a picture (expected JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC)"
        else:
            assert row["error"] is None
            assert row["index"] == ["red", "green", "blue", "grey"].index(row["label"])
            assert row["top"][0] == {"label": row["label"], "probability": row["probability"]}
            assert sum(item["probability"] for item in row["top"]) == pytest.approx(1, abs=1e-5)
            assert len(row["top"]) == 4
            assert 0.9 < row["probability"] <= 1
    assert b"8 pictures classified, 1 could not be read" in done.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_probability_that_is_not_a_number_is_null(form: str) -> None:
    """A device may overflow; JSON has no NaN."""
    found = Prediction("red", 0, math.nan, (("red", math.nan), ("blue", 0.25)))
    text = formatter(form, ("red", "blue"), strangers=False)[1](Row("a.png", found, None))
    refuse = {"parse_constant": lambda name: pytest.fail(name)}
    if form == "jsonl":
        row = json.loads(text, **refuse)
    else:
        row = dict(zip(FIELDS, next(csv.reader([text])), strict=True))
        row = {**row, "probability": row["probability"] or None, "top": json.loads(row["top"], **refuse)}
    assert row["probability"] is None
    assert [item["probability"] for item in row["top"]] == [None, 0.25]


def test_the_table_has_one_line_per_file(folder: Path, models: Path, cli: Run) -> None:
    lines = cli("in", "--model", models / "rgb.onnx").stdout.decode().splitlines()
    assert lines[0].split() == ["label", "probability", "path"]
    assert [line.split()[0] for line in lines[1:]] == [label or "error" for _, label in wanted(folder)]
    assert any(line.endswith("in/line\\nbreak.png") for line in lines)
    assert any(line.endswith("in/return\\rhere.png") for line in lines)
    assert any(line.endswith("in/caf\\xe9.png") for line in lines)


def test_a_class_name_cannot_break_the_table(
    tmp_path: Path, models: Path, with_metadata: Callable[..., bytes], cli: Run, picture: Callable[..., Path]
) -> None:
    document = json.loads(open_model(models / "grey.onnx").spec.to_json())
    document["classes"][2] = "two\nlines\x1b[2J"
    (tmp_path / "model.onnx").write_bytes(with_metadata("grey.onnx", "cnn.spec", json.dumps(document)))
    picture(tmp_path / "in" / "dark" / "a.png", "white")
    picture(tmp_path / "in" / "no\x1b[2Jclass" / "a.png", "white")
    done = cli("in", "--model", "model.onnx")
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("two\\nlines\\x1b[2J ")
    assert b"\x1b" not in done.stderr
    assert b"  two\\nlines\\x1b[2J " in done.stderr
    assert b"no\\x1b[2Jclass (1)" in done.stderr


def on_a_terminal(cli: Run, *arguments: object) -> list[str]:
    leader, terminal = os.openpty()
    with os.fdopen(leader, "rb", buffering=0) as screen:
        cli(*arguments, stdout=terminal)
        os.close(terminal)
        found = bytearray()
        with suppress(OSError):  # EIO marks its end
            while block := screen.read(1 << 16):
                found += block
    assert found.endswith(b"\r\n")
    return found.decode().split("\r\n")[:-1]


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_control_characters_in_names_are_escaped_on_a_terminal(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path], form: str
) -> None:
    names = ["a\x1b[2J.png", "b\nline.png", "c\x9b2J.png", "d\x07.png"]
    for name in names:
        picture(tmp_path / "in" / name, "red")
    model = ("--model", models / "rgb.onnx", "--format", form)
    lines = on_a_terminal(cli, "in", *model)
    assert len(lines) == len(names) + (form != "jsonl")
    assert all(line.isprintable() for line in lines)
    if form == "csv":
        rows = from_csv(cli("in", *model).stdout)
        assert [row["path"] for row in rows] == [f"in/{name}" for name in names]


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_control_characters_in_a_model_are_escaped_on_a_terminal(
    tmp_path: Path, models: Path, with_metadata: Callable[..., bytes], cli: Run, form: str
) -> None:
    document = json.loads(open_model(models / "grey.onnx").spec.to_json())
    document["classes"][2] = "clears\x9b2J"
    (tmp_path / "model.onnx").write_bytes(with_metadata("grey.onnx", "cnn.spec", json.dumps(document)))
    lines = on_a_terminal(cli, "--info", "--model", "model.onnx", "--format", form)
    assert any("clears\\x9b2J" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_the_same_input_gives_the_same_bytes(folder: Path, models: Path, cli: Run) -> None:
    options = ("--model", models / "rgb.onnx", "--format", "jsonl")
    want = cli("in", *options).stdout
    for batch_size, threads in (("1", "1"), ("2", "3"), ("1000", "2")):
        assert cli("in", *options, "--batch-size", batch_size, "--threads", threads).stdout == want
    done = cli("in", *options, "--output", "rows.jsonl")
    assert not done.stdout
    assert (folder.parent / "rows.jsonl").read_bytes() == want
    assert b"wrote rows.jsonl" in done.stderr


def test_rows_have_the_order_of_the_arguments(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    for name, colour in COLOURS.items():
        picture(tmp_path / f"{name}.png", colour)
    os.replace(tmp_path / "red.png", tmp_path / "no_extension")
    arguments = ("green.png", "no_extension", "blue.png", "green.png")
    rows = from_csv(cli(*arguments, "--model", models / "rgb.onnx", "--format", "csv", "--top", "1").stdout)
    assert [row["path"] for row in rows] == list(arguments)
    assert [row["label"] for row in rows] == ["green", "red", "blue", "green"]
    assert {len(row["top"]) for row in rows} == {1}


def test_the_threshold_makes_rows_unknown(tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.png", (120, 120, 120))  # grey with 0.7
    done = cli("a.png", "--model", models / "rgb.onnx", "--format", "jsonl", "--threshold", "0.9")
    (row,) = from_jsonl(done.stdout)
    assert (row["label"], row["index"]) == ("unknown", None)
    assert row["top"][0]["label"] == "grey"
    assert row["probability"] == row["top"][0]["probability"] == pytest.approx(0.711, abs=1e-3)


def test_without_model_the_newest_export_is_used_and_named(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path], refused: Callable[..., str]
) -> None:
    picture(tmp_path / "a.png", COLOURS["red"])
    assert "no exported model under runs/" in refused("a.png")
    run = tmp_path / "runs" / "20260101-digits"
    run.mkdir(parents=True)
    (run / "export.json").write_text('{"ship": "model.onnx"}')
    (run / "model.onnx").write_bytes((models / "rgb.onnx").read_bytes())
    first = cli("a.png").stderr.decode().splitlines()[0]
    assert first.startswith("model: runs/20260101-digits/model.onnx (fp32) on CPUExecutionProvider (")


def test_the_installed_script_equals_the_module(tmp_path: Path, models: Path, picture: Callable[..., Path]) -> None:
    script = Path(sys.executable).parent / "cnn-infer"
    if not script.exists():
        pytest.skip("cnn-infer is not installed as a script")
    picture(tmp_path / "a.png", COLOURS["red"])
    arguments = [tmp_path / "a.png", "--model", models / "rgb.onnx", "--format", "csv"]
    done = subprocess.run([script, *arguments], capture_output=True, check=True)
    assert done.stdout.splitlines()[1].startswith(os.fsencode(tmp_path / "a.png") + b",red,0,")


def test_info_as_json_is_one_line_on_standard_output(tmp_path: Path, models: Path, cli: Run) -> None:
    name = os.fsencode(tmp_path) + b"/mod\xe8le.onnx"
    with open(name, "wb") as stream:
        stream.write((models / "grey.onnx").read_bytes())
    done = cli("--info", "--format", "jsonl", "--model", name)
    assert done.stdout.count(b"\n") == 1
    found = json.loads(done.stdout)
    assert found["file"] == f"{tmp_path}/mod\\xe8le.onnx"
    assert found["bytes"] == (models / "grey.onnx").stat().st_size
    assert found["classes"] == ["dark", "middle", "bright"]
    assert (found["height"], found["width"], found["colour"], found["format"]) == (8, 8, "grey", 1)
