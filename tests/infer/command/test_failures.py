"""Bad input gets a row, bad arguments get one line; nothing is lost and no traceback is printed."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]


def bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


def test_unreadable_files_get_a_row_with_the_reason(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "m.png", "z.png"):
        picture(folder / name, "red")
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG")
    (folder / "truncated.jpg").write_bytes(stream.getvalue()[:1000])
    (folder / "text.jpg").write_text("hello")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "bomb.png").write_bytes(bomb())
    (folder / "gone.jpg").symlink_to("absent.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "folder.jpg").mkdir()
    done = cli("in", "--model", models / "rgb.onnx", "--format", "csv", "--batch-size", "2")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    errors = {row["path"]: row["error"] for row in rows}
    names = ["a.png", "bomb.png", "empty.jpg", "gone.jpg", "loop.jpg", "m.png", "text.jpg", "truncated.jpg", "z.png"]
    assert list(errors) == [f"in/{name}" for name in names]
    reasons = {
        "bomb.png": "50000 x 50000 pixels exceed the limit of 100,000,000",
        "empty.jpg": "the file is empty",
        "gone.jpg": "cannot read it: No such file or directory",
        "loop.jpg": "cannot read it: Too many levels of symbolic links",
        "text.jpg": "not a picture (expected JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC)",
    }
    for name, reason in reasons.items():
        assert errors[f"in/{name}"] == reason
    assert errors["in/truncated.jpg"].startswith("damaged or unsupported picture: ")
    for row in rows:
        assert (row["label"] == "red") is not bool(row["error"])
    assert b"3 pictures classified, 6 could not be read" in done.stderr


def test_files_and_folders_without_permission_get_a_row(
    tmp_path: Path, models: Path, picture: Callable[..., Path], environment: dict[str, str]
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name, "red")
    picture(tmp_path / "d" / "inside.png", "red")
    os.chmod(tmp_path / "b.png", 0)
    os.chmod(tmp_path / "d", 0)
    # root reads every file, unless the process drops that capability
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if unprivileged and not shutil.which("setpriv"):
        pytest.skip("needs setpriv, or a user other than root")
    if subprocess.run([*unprivileged, "cat", tmp_path / "b.png"], capture_output=True, check=False).returncode == 0:
        pytest.skip("root cannot drop the capability on this machine")
    command = [*unprivileged, sys.executable, "-m", "cnn_infer", ".", "--model", models / "rgb.onnx", "--format", "csv"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    os.chmod(tmp_path / "d", 0o755)
    assert [row["label"] for row in rows] == ["red", "", "red", ""]
    assert rows[1]["error"] == "cannot read it: Permission denied"
    assert rows[3]["path"] == "./d"
    assert rows[3]["error"] in ("it is a folder; one found in a folder could not be listed", rows[1]["error"])
    assert "Traceback" not in done.stderr


def test_no_pictures_is_one_line(tmp_path: Path, models: Path, refused: Refused) -> None:
    (tmp_path / "empty").mkdir()
    model = ("--model", models / "rgb.onnx", "--format", "jsonl")
    assert refused("empty", *model).startswith("cnn-infer: no pictures found: expected files or folders with JPEG")
    assert refused("absent", *model) == "cnn-infer: no such file or folder: absent"
    assert refused(b"caf\xe9", *model) == "cnn-infer: no such file or folder: caf\\xe9"


def test_all_paths_are_checked_first(
    tmp_path: Path, models: Path, picture: Callable[..., Path], refused: Refused
) -> None:
    picture(tmp_path / "a.png", "red")
    model = ("--model", models / "rgb.onnx", "--format", "jsonl")
    assert refused("a.png", "absent", *model) == "cnn-infer: no such file or folder: absent"


@pytest.mark.parametrize("option", ["--output", "--report"])
@pytest.mark.parametrize("name", ["a.png", "in/b.png", "model.onnx", "./in/../a.png", "photo", "link.csv"])
def test_inputs_are_not_overwritten(
    tmp_path: Path, models: Path, picture: Callable[..., Path], refused: Refused, option: str, name: str
) -> None:
    picture(tmp_path / "a.png", "red")
    picture(tmp_path / "in" / "b.png", "red")
    shutil.copy(models / "rgb.onnx", tmp_path / "model.onnx")
    shutil.copy(tmp_path / "a.png", tmp_path / "photo")  # a picture whatever its name
    (tmp_path / "link.csv").symlink_to("in/b.png")
    before = (tmp_path / name).read_bytes()
    line = refused("a.png", "in", "photo", "--model", "model.onnx", option, name)
    assert line.endswith(": choose another file for the results")
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("option", ["--output", "--report"])
@pytest.mark.parametrize("name", ["list.txt", "photo", "other name", "linked"])
def test_inputs_from_a_list_are_not_overwritten(
    tmp_path: Path, models: Path, picture: Callable[..., Path], refused: Refused, option: str, name: str
) -> None:
    shutil.copy(picture(tmp_path / "a.png", "red"), tmp_path / "photo")
    os.link(tmp_path / "photo", tmp_path / "other name")
    shutil.copy(tmp_path / "a.png", tmp_path / "linked")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").symlink_to("../linked")
    (tmp_path / "list.txt").write_text("photo\nin\n")
    before = (tmp_path / name).read_bytes()
    with (tmp_path / "list.txt").open("rb") as listed:
        line = refused("-", "--model", models / "rgb.onnx", option, name, stdin=listed)
    assert line == f"cnn-infer: {name} is also an input: choose another file for the results"
    assert (tmp_path / name).read_bytes() == before


def test_a_closed_standard_input_is_one_line(tmp_path: Path, models: Path, refused: Refused) -> None:
    line = refused("-", "--model", models / "rgb.onnx", "--output", "rows", preexec_fn=lambda: os.close(0))
    assert line.startswith("cnn-infer: standard input is closed")


def test_closed_standard_streams_are_no_traceback(
    tmp_path: Path, models: Path, picture: Callable[..., Path], environment: dict[str, str]
) -> None:
    picture(tmp_path / "a.png", "red")
    command = f"'{sys.executable}' -m cnn_infer a.png --model '{models / 'rgb.onnx'}' --report r.json"
    for closed, code in ((">&-", 2), ("2>&-", 0)):
        done = subprocess.run(
            ["sh", "-c", f"{command} {closed}"], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
    assert (tmp_path / "r.json").exists()


def test_rows_and_report_in_the_same_file_are_refused(
    tmp_path: Path, models: Path, picture: Callable[..., Path], cli: Run
) -> None:
    picture(tmp_path / "a.png", "red")
    done = cli("a.png", "--model", models / "rgb.onnx", "--output", "x", "--report", "./x", code=2)
    assert b"name the same file" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_report_does_not_replace_the_manifest(
    tmp_path: Path, models: Path, picture: Callable[..., Path], refused: Refused
) -> None:
    picture(tmp_path / "a.png", "red")
    options = ("--model", models / "rgb.onnx", "--output", "x", "--report", "./x.manifest.json")
    assert "is the manifest of --output, which --resume needs" in refused("a.png", *options)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.onnx", r"cannot read the model: absent\.onnx \(No such file or directory\)"),
        (".", r"cannot read the model: \. \(Is a directory\)"),
        ("text.onnx", r"not an ONNX model, or damaged: text\.onnx"),
        ("cut.onnx", r"not an ONNX model, or damaged: cut\.onnx"),
        ("foreign.onnx", r"an ONNX model, but not one that cnn-export wrote"),
        ("one_at_a_time.onnx", r"its batch size is fixed at 1"),
        ("fails_in_batches.onnx", r"the model failed on 2 pictures: .*Reshape"),
    ],
)
def test_a_bad_model_is_one_line(
    tmp_path: Path, models: Path, refused: Refused, picture: Callable[..., Path], name: str, reason: str
) -> None:
    picture(tmp_path / "a.png", "red")
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes((models / "rgb.onnx").read_bytes()[:700])
    model = models / name if (models / name).is_file() else name
    assert re.search(reason, refused("a.png", "a.png", "--model", model, "--output", "rows.txt"))
    assert not (tmp_path / "rows.txt").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_unavailable_device_is_one_line(models: Path, refused: Refused) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    line = refused("--info", "--model", models / "rgb.onnx", "--device", "cuda")
    assert line.startswith("cnn-infer: the installed ONNX Runtime has no CUDAExecutionProvider (it has cpu")
    assert "pip install 'cnn-infer[gpu]'" in line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a.png", "--batch-size", "0"),
        ("a.png", "--threads", "0"),
        ("a.png", "--top", "0"),
        ("a.png", "--threshold", "1.5"),
        ("a.png", "--threshold", "nan"),
        ("a.png", "--format", "xml"),
        ("a.png", "--device", "gpu"),
        ("a.png", "--output", "absent/rows.csv"),
        ("a.png", "--output", "."),
        ("a.png", "--report", "absent/report.json"),
        ("a.png", "--unheard-of"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused_first(models: Path, cli: Run, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--model", models / "rgb.onnx", code=2)
    assert not done.stdout
    assert b"classified" not in done.stderr


def test_an_earlier_file_stays_when_the_run_fails(
    tmp_path: Path, models: Path, cli: Run, refused: Refused, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "a.png", "red")
    (tmp_path / "rows.csv").write_text("old rows")
    options = ("--model", models / "rgb.onnx", "--format", "csv", "--output", "rows.csv")
    refused("a.png", "absent.png", *options)
    assert (tmp_path / "rows.csv").read_text() == "old rows"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "rows.csv"]
    cli("a.png", *options)
    assert (tmp_path / "rows.csv").read_text().startswith("path,label,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "rows.csv"]


def test_errors_of_click_are_one_line_too(tmp_path: Path, refused: Refused) -> None:
    assert ". is a folder: name a file with --output" in refused("a.png", "--output", ".")
    assert refused("--nonsense").endswith("(cnn-infer --help explains)")
