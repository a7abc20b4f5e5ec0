"""The reader in JavaScript gives what cnn_infer gives: its own tests on files made here, and its rows byte for byte."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cnn_export.graph.half import to_half
from cnn_infer import Guarantee, Spec
from PIL import Image

ROOT = Path(__file__).parents[2]
READER = ROOT / "readers" / "js"
HANGS_AFTER = 120


def test_reader(fixtures: Path) -> None:
    """The tests in readers/js/test."""
    environment = {**os.environ, "EDGECNN_FIXTURES": str(fixtures)}
    tests = sorted(str(path) for path in READER.glob("test/*.test.js"))
    command = ["node", "--test", "--test-reporter=tap", *tests]
    done = subprocess.run(
        command, cwd=READER, env=environment, capture_output=True, text=True, timeout=HANGS_AFTER, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "# skipped 0" in done.stdout


def test_the_program_of_the_page_runs(fixtures: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "javascript.md").read_text(encoding="utf-8")
    [program] = re.findall(r"^```text\n(import .*?)^```$", text, re.M | re.S)
    (tmp_path / "program.mjs").write_text(program)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "edgecnn").symlink_to(READER)
    shutil.copy(fixtures / "rgb" / "model.onnx", tmp_path)
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.jpg")
    done = subprocess.run(["node", "program.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.split()[:2]) == ("", ["true", "red"])


def test_types() -> None:
    done = subprocess.run(["npm", "run", "types"], cwd=READER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


Edgecnn = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="session")
def edgecnn() -> Edgecnn:
    def run(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        command = ["node", str(READER / "bin" / "edgecnn.js"), *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=HANGS_AFTER, check=False)
        assert done.returncode == code, done.stderr.decode()
        assert b"    at " not in done.stderr, done.stderr.decode()
        return done

    return run


def with_guarantee(source: Path, target: Path, threshold: float) -> None:
    """Write a model with a certified threshold."""
    model = onnx.load(str(source))
    [entry] = [entry for entry in model.metadata_props if entry.key == "cnn.spec"]
    spec = Spec.from_json(entry.value)
    promise = Guarantee(threshold, 0.1, 0.95, 0.05, coverage=0.5, images=100, answered=50, wrong=1)
    entry.value = replace(spec, details={**spec.details, "guarantee": promise.to_json()}).to_json()
    onnx.save(model, str(target))


def test_rows_are_those_of_cnn_infer(fixtures: Path, edgecnn: Edgecnn, tmp_path: Path) -> None:
    """Pictures of every kind, names of every kind, folders in folders, and errors with the same cause."""
    photos = tmp_path / "photos"
    (photos / "b" / "c").mkdir(parents=True)
    (photos / ".hidden").mkdir()
    names = {"a, b.jpg": "JPEG", 'say "hi".png': "PNG", "b.png": "PNG", "\u00e9.jpg": "JPEG", "line\nbreak.bmp": "BMP"}
    names |= {"b/1.gif": "GIF", "b/c/2.webp": "WEBP", "b0.tif": "TIFF", "B.JPG": "JPEG", ".hidden/3.jpg": "JPEG"}
    chance = np.random.default_rng(1)
    for name, form in names.items():
        Image.fromarray(chance.integers(0, 256, (20, 24, 3), np.uint8)).save(photos / name, form)
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no picture")
    (photos / "notes.txt").write_text("no picture")
    (photos / "broken.jpg").symlink_to("missing")
    (photos / os.fsdecode(b"\xff\xe9.png")).write_bytes((photos / "b.png").read_bytes())
    model = tmp_path / "certified.onnx"
    with_guarantee(fixtures / "rgb" / "model.onnx", model, threshold=0.75)
    for options in ((), ("--threshold", "certified"), ("--top", "2", "--threshold", "0.6", "--max-pixels", "479")):
        given = ["photos", "photos/b.png", *options]
        command = [str(Path(sys.executable).with_name("cnn-infer")), "--model", str(model), "--format", "csv", *given]
        expected = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        found = edgecnn(tmp_path, model, *given, code=1 if "--max-pixels" in options else 0)
        assert found.stdout == expected.stdout
        assert (b",unknown," in found.stdout) == ("certified" in options)
        assert found.stdout.count(b"\n") == 16  # the header, 14 pictures, and a line break in a name


def test_rows_on_a_terminal_have_no_control_characters(fixtures: Path, tmp_path: Path) -> None:
    model = str(fixtures / "rgb" / "model.onnx")
    for name in ("\x1b[2J.png", "line\nbreak.png", "\u00a0\u202e.png"):
        Image.new("RGB", (9, 9), "blue").save(tmp_path / name)
    commands = (
        [str(Path(sys.executable).with_name("cnn-infer")), "--model", model, "--format", "csv", "."],
        ["node", str(READER / "bin" / "edgecnn.js"), model, "."],
    )
    screens = []
    for command in commands:
        ours, theirs = pty.openpty()
        subprocess.run(command, cwd=tmp_path, stdout=theirs, stderr=subprocess.DEVNULL, check=True)
        os.close(theirs)
        screens.append(os.read(ours, 1 << 16))
        os.close(ours)
    assert screens[0] == screens[1]
    assert b"\\x1b[2J.png" in screens[1]


def test_the_command_verifies(fixtures: Path, edgecnn: Edgecnn, tmp_path: Path) -> None:
    done = edgecnn(tmp_path, fixtures / "grey" / "model.onnx", "--verify")
    assert b"verified: every stage gives the same as at export" in done.stderr
    model = onnx.load(str(fixtures / "grey" / "model.onnx"))
    [spec] = [entry for entry in model.metadata_props if entry.key == "cnn.spec"]
    spec.value = replace(Spec.from_json(spec.value), filter="lanczos").to_json()
    onnx.save(model, str(tmp_path / "other.onnx"))
    done = edgecnn(tmp_path, "other.onnx", "--verify", code=1)
    assert b"edgecnn: resize differs for " in done.stderr


def test_an_fp16_model_has_a_tolerance_of_its_own(fixtures: Path, edgecnn: Edgecnn, tmp_path: Path) -> None:
    model = to_half(onnx.load(str(fixtures / "rgb" / "model.onnx")), ())
    entries = {entry.key: entry for entry in model.metadata_props}
    expected = json.loads(entries["cnn.golden"].value)
    for entry in expected:
        entry["probabilities"][0] += 0.01 if entry["probabilities"][0] < 0.5 else -0.01
    entries["cnn.golden"].value = json.dumps(expected)
    for precision, code in (("fp16", 0), ("fp32", 1)):
        spec = Spec.from_json(entries["cnn.spec"].value)
        entries["cnn.spec"].value = replace(spec, details={**spec.details, "precision": precision}).to_json()
        onnx.save(model, str(tmp_path / "half.onnx"))
        done = edgecnn(tmp_path, "half.onnx", "--verify", code=code)
        assert (b"verified: every stage gives the same as at export" in done.stderr) == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "name a model and pictures"),
        (("missing.onnx", "."), "cannot read the model: missing.onnx"),
        (("foreign.onnx", "."), "not a model that cnn-export wrote"),
        (("rgb/model.onnx",), "name pictures or folders, or pass --verify"),
        (("rgb/model.onnx", "missing.jpg"), "no such file or folder: missing.jpg"),
        (("rgb/model.onnx", "resizes.json"), "none of the pictures could be read"),
        (("rgb/model.onnx", "rgb/vectors/raw"), "no pictures found"),
        (("fails_in_batches.onnx", "kinds/0", "kinds/1"), "the model failed on 2 pictures: "),
        (("rgb/model.onnx", ".", "--top", "0"), "--top must be a whole number of at least 1, not 0"),
        (
            ("rgb/model.onnx", ".", "--threshold", "2"),
            "--threshold must be a probability from 0 to 1, or certified, not 2",
        ),
        (("rgb/model.onnx", ".", "--threshold", "certified"), "the model has no certified threshold: "),
        (("rgb/model.onnx", ".", "--nope"), "no such option: --nope (edgecnn --help explains)"),
        (("--model", "rgb/model.onnx", "."), "the model is the first argument: edgecnn MODEL.onnx PATH... (edgecnn --"),
        (("--model=rgb/model.onnx", "."), "the model is the first argument: edgecnn MODEL.onnx PATH... (edgecnn --"),
        (("rgb/model.onnx", ".", "--top", "-3"), "--top needs a value (edgecnn --help explains)"),
        (("rgb/model.onnx", ".", "--top"), "--top needs a value (edgecnn --help explains)"),
        (("rgb/model.onnx", "--verify=3"), "--verify takes no value (edgecnn --help explains)"),
        (("rgb/model.onnx", ".", "--verify"), "--verify takes no pictures"),
        (
            ("rgb/model.onnx", "--verify", "--top", "5", "--max-bytes", "9"),
            "no effect with --verify: --top, --max-bytes",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], text: str, fixtures: Path, edgecnn: Edgecnn) -> None:
    code = 1 if text.startswith("none of") else 2
    *_, line = edgecnn(fixtures, *arguments, code=code).stderr.decode().splitlines()
    assert line.startswith(f"edgecnn: {text}")
