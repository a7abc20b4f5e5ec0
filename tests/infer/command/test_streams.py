"""The rows when their reader exits, the disk is full, Ctrl-C is pressed, or standard streams are closed."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]


@pytest.fixture
def many(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """3,000 pictures, all links to one file."""
    first = picture(tmp_path / "in" / "0.png", "red", (400, 400))
    for index in range(1, 3000):
        os.link(first, first.with_name(f"{index}.png"))
    return first.parent


@pytest.mark.parametrize("output", [(), ("--output", "rows.csv")], ids=["screen", "file"])
def test_ctrl_c_is_one_line_and_130(
    many: Path, models: Path, tmp_path: Path, environment: dict[str, str], output: tuple[str, ...]
) -> None:
    (tmp_path / "rows.csv").write_text("old rows")
    names = [many] * 10  # half a minute of work
    process = subprocess.Popen(
        [sys.executable, "-m", "cnn_infer", *names, "--model", models / "rgb.onnx", "--format", "csv", *output],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if output:
        while process.poll() is None and not (tmp_path / "rows.csv").read_text().startswith("path,"):
            time.sleep(0.01)
    else:
        process.stdout.read(1)  # the first rows are written
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors.decode()
    assert errors.decode().splitlines()[-1] == "cnn-infer: interrupted"
    assert b"Traceback" not in errors
    if not output:
        assert (tmp_path / "rows.csv").read_text() == "old rows"
    assert not list(tmp_path.glob(".*"))


def test_a_reader_that_exits_is_no_error_message(
    many: Path, models: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    for count in (1, 3000):  # the pipe breaks at the end, and in the middle
        names = [str(path) for path in many.iterdir()][:count]
        process = subprocess.Popen(
            [sys.executable, "-m", "cnn_infer", *names, "--model", models / "rgb.onnx"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode().splitlines()
        assert process.wait(30) == 1
        assert [line for line in errors if not line.startswith("model: ")] == []


def test_head_gets_its_line(many: Path, models: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m cnn_infer in --model {models / 'rgb.onnx'} --format csv 2>errors | head -1"
    found = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert found.stdout == b"path,label,index,probability,top,error\n"
    assert "Traceback" not in (tmp_path / "errors").read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("what", ["rows", "info"])
def test_a_full_disk_behind_standard_output(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path], what: str
) -> None:
    picture(tmp_path / "a.png", "red")
    with open("/dev/full", "wb") as full:
        done = cli("--info" if what == "info" else "a.png", "--model", models / "rgb.onnx", code=2, stdout=full)
    assert done.stderr.decode().splitlines()[1:] == ["cnn-infer: No space left on device"]


def small_disk(tmp_path: Path) -> Callable[[], None] | None:
    """Mount a disk of 16 KB at tmp_path/disk if permitted; otherwise return a function that limits file sizes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if os.geteuid() == 0 and subprocess.run(options, capture_output=True, check=False).returncode == 0:
        return None

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))

    return limit


def test_a_full_disk_keeps_whole_rows_and_the_run_can_be_resumed(
    tmp_path: Path, models: Path, refused: Refused, cli: Run, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "a.png", "red")
    limit = small_disk(tmp_path)
    disk = tmp_path / "disk"
    try:
        options = ("--model", models / "rgb.onnx", "--format", "jsonl", "--output", "disk/rows.jsonl")
        line = refused(*["a.png"] * 300, *options, preexec_fn=limit)  # 60 KB of rows
        assert line.startswith("cnn-infer: No space left on device" if limit is None else "cnn-infer: File too large")
        assert "free space, then continue with --resume" in line
        assert {path.name for path in disk.iterdir()} == {"rows.jsonl", "rows.jsonl.manifest.json"}
        if limit is None:
            subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        cli(*["a.png"] * 300, *options, "--resume")
        rows = (disk / "rows.jsonl").read_text().splitlines()
        assert len(rows) == 300
        assert len(set(rows)) == 1
        assert {path.name for path in disk.iterdir()} == {"rows.jsonl"}
    finally:
        if limit is None:
            subprocess.run(["umount", disk], check=True)


def test_a_pipe_is_written_to_and_not_replaced(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "a.png", "red")
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    cli("a.png", "--model", models / "rgb.onnx", "--format", "csv", "--output", "pipe")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    reader.join(10)
    assert read[0].splitlines()[1].startswith(b"a.png,red,0,")


def test_the_report_is_written_if_rows_go_to_a_device(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "a.png", "red")
    cli("a.png", "--model", models / "rgb.onnx", "--output", os.devnull, "--report", "report.json")
    assert (tmp_path / "report.json").exists()


@pytest.mark.parametrize(
    "arguments", [("in",), ("in", "--report", "r.json"), ("--info",), ("in", "--latency"), ("--help",)], ids=" ".join
)
def test_results_without_standard_output_are_an_error(
    models: Path, picture: Callable[..., Path], refused: Refused, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    line = refused(*arguments, "--model", models / "rgb.onnx", preexec_fn=lambda: os.close(1))
    assert line == "cnn-infer: standard output is closed: redirect it to a file or a pipe"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("closed", [(1,), (0, 1), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_files_are_written_without_standard_streams(
    models: Path, picture: Callable[..., Path], tmp_path: Path, cli: Run, closed: tuple[int, ...]
) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    model = ("--model", models / "rgb.onnx")
    cli("in", *model, "--output", "wanted")
    done = cli("in", *model, "--output", "rows", preexec_fn=lambda: [os.close(number) for number in closed])
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "wanted").read_bytes()
    assert not done.stdout
    assert cli("--verify", *model, preexec_fn=lambda: [os.close(number) for number in closed]).returncode == 0
