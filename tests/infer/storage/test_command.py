"""The command with URLs: results that are uploaded, interrupted and resumed runs, wrong credentials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest

from .conftest import S3


@pytest.fixture
def pictures(s3: S3, tmp_path: Path, picture: Callable[..., Path], models: Path, environment: dict[str, str]) -> Path:
    """A folder of eight pictures, which are also in the store with the model; results wait in a folder of the test."""
    for number in range(8):
        path = picture(tmp_path / "photos" / ("dark", "bright")[number % 2] / f"{number}.png", 30 * number, mode="L")
        s3.put(f"run/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    s3.put("run/model.onnx", (models / "grey.onnx").read_bytes())
    (tmp_path / "spool").mkdir()
    environment["TMPDIR"] = str(tmp_path / "spool")
    return tmp_path / "photos"


SOURCE = ("s3://pictures/run/photos", "--model", "s3://pictures/run/model.onnx", "--format", "csv")


def test_results_go_to_urls(
    pictures: Path, s3: S3, models: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    expected = cli("photos", "--model", str(models / "grey.onnx"), "--format", "csv").stdout
    endings = {"--output": "csv", "--report": "json", "--html": "html"}
    names = {option: f"s3://pictures/out/1.{ending}" for option, ending in endings.items()}
    report = f"out/{'r' * 245}.json"  # longer than the name of a file of this machine with anything before it
    names["--report"] = f"s3://pictures/{report}"
    done = cli(*SOURCE, *chain.from_iterable(names.items()), "--strict")
    assert done.stdout == b""
    assert done.stderr.decode().splitlines()[-3:] == [f"wrote {url}" for url in names.values()]
    assert s3.get("out/1.csv").replace(b"s3://pictures/run/", b"") == expected
    assert json.loads(s3.get(report))["images"] == 8
    page = s3.get("out/1.html")
    assert page.startswith(b"<!doctype html>")
    assert b"data:image/" in page  # the mistakes, read from the store
    assert [path for path in (pictures.parent / "spool").rglob("*") if path.is_file()] == []


def test_a_single_picture_needs_no_folder_with_the_name_of_a_class(
    pictures: Path, s3: S3, cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    s3.put("lake/0.png", (pictures / "dark" / "0.png").read_bytes())
    for path, found in (("lake/0.png", False), ("lake", True), ("lake/*.png", True)):
        done = cli(f"s3://pictures/{path}", *SOURCE[1:])
        assert (b"no accuracy: none of the folders" in done.stderr) == found


def test_ctrl_c_ends_requests_in_flight_and_resume_continues(
    pictures: Path, s3: S3, environment: dict[str, str], cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    arguments = [*SOURCE, "--output", "s3://pictures/out/2.csv", "--batch-size", "1", "--threads", "1"]
    s3.faults.planned["/dark/6.png?"] = ["wait"]
    started = subprocess.Popen(
        [sys.executable, "-m", "cnn_infer", *arguments], env=environment, cwd=pictures.parent, stderr=subprocess.PIPE
    )
    assert s3.faults.waiting.wait(50)
    time.sleep(0.2)  # for the rows before
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=20)  # the server would answer after minutes
    s3.faults.answer.set()
    assert started.returncode == 130
    assert b"7 rows written to" in errors
    assert b"with --resume to continue" in errors
    assert not s3.keys("out/2.csv")
    s3.faults.clear()
    cli(*arguments, "--resume")
    assert s3.get("out/2.csv").count(b"\n") == 9
    assert s3.faults.requests["/pictures/run/photos/dark/6.png"] == 1
    assert s3.faults.requests["/pictures/run/photos/bright/1.png"] == 0


def test_wrong_credentials_and_places_are_one_line(pictures: Path, s3: S3, refused: Callable[..., str]) -> None:
    s3.faults.planned["/"] = [403] * 99
    line = refused(*SOURCE, "--output", "s3://pictures/out/3.csv")
    assert "s3://pictures/out/3.csv: access is denied (HTTP 403" in line
    assert not any(text in line for text in s3.environment.values() if "tests" in text)
    s3.faults.clear()
    assert "s3://nowhere/3.csv: there is no such bucket" in refused(*SOURCE, "--output", "s3://nowhere/3.csv")
    assert not s3.keys("out/3")
    assert not s3.faults.requests["/pictures/run/photos/dark/6.png"]  # found out before the run


def test_a_failed_upload_is_repeated_by_resume(
    pictures: Path, s3: S3, refused: Callable[..., str], cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    target = ["--output", "s3://pictures/out/4.csv"]
    s3.faults.planned["/out/4.csv?"] = [0, 403]  # the object is looked up before the run, and written after it
    line = refused(*SOURCE, *target)
    assert "s3://pictures/out/4.csv: access is denied (HTTP 403" in line
    file, _, advice = line.partition("the results are in ")[2].partition("; ")
    assert Path(file).read_bytes().count(b"\n") == 9
    assert advice == "run the same command with --resume to upload them"
    assert not s3.keys("out/4.csv")
    s3.faults.clear()
    assert "s3://pictures/out/4.csv is unfinished: pass --resume to continue it" in refused(*SOURCE, *target)
    cli(*SOURCE, *target, "--resume")
    assert s3.get("out/4.csv").count(b"\n") == 9
    assert s3.faults.requests["/pictures/run/photos/dark/6.png"] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--output", "https://host/rows.csv"], "a web server can only be read: https://host/rows.csv"),
        (["--output", "ssh://host/rows.csv"], "unsupported protocol in ssh://host/rows.csv"),
        (["--output", "memory://box/rows.csv"], "memory://box/rows.csv is lost when the command ends"),
        (["--report", "memory://box/report.json"], "memory://box/report.json is lost when the command ends"),
        (["--ray", "--output", "memory://box/rows"], "memory://box/rows is lost when the command ends"),
        (["--output", "s3://b/1.png"], "s3://b/1.png has the name of a picture or a model"),
        (["--verify", "--certificate", "s3://b/c.json"], "'s3://b/c.json' is a URL, not a path on this machine"),
        (["--evidence", "s3://b/drawings"], "'s3://b/drawings' is a URL, not a path on this machine"),
        (["--truth", "s3://b/labels.csv"], "is a URL, not a path on this machine"),
    ],
)
def test_places_that_cannot_be_used_are_refused(
    arguments: list[str], expected: str, models: Path, refused: Callable[..., str]
) -> None:
    assert expected in refused("photos", "--model", str(models / "grey.onnx"), *arguments)


def test_a_file_for_results_is_not_compared_with_urls(
    pictures: Path, s3: S3, cli: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    counts = []
    for _ in range(2):  # the second run replaces the file
        s3.faults.clear()
        cli(*SOURCE, "--output", "rows.csv")
        counts.append(s3.faults.requests["/pictures"])
    assert counts[0] == counts[1]


def test_without_a_url_nothing_of_it_is_imported(models: Path, picture: Callable[..., Path], tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 9)
    code = (
        "import sys; sys.argv[0] = 'cnn-infer'; from cnn_infer.command.cli import command\n"
        "command.main(sys.argv[1:], standalone_mode=False)\n"
        "print([name for name in ('fsspec', 'asyncio', 'aiohttp', 'concurrent.futures.thread') if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "1.png"), "--model", str(models / "grey.onnx")]
    done = subprocess.run(arguments, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stdout.endswith(b"\n[]\n")
