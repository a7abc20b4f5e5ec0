"""Patterns, and lists of paths on standard input."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer.paths.find import find_below
from cnn_infer.paths.listed import LONGEST, Listed

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]


def paths(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line.split(",")[0] for line in os.fsdecode(done.stdout).splitlines()[1:]]


@pytest.fixture
def model(tmp_path: Path, models: Path, picture: Callable[..., Path]) -> tuple[object, ...]:
    for name in ("a.png", "in/b.png", "in/c d.png", "in/deep/e.jpg", "in/deep/note.txt"):
        picture(tmp_path / (name if not name.endswith("txt") else "x.png"), "red")
    (tmp_path / "in/deep/note.txt").write_text("no picture")
    return ("--model", models / "rgb.onnx", "--format", "csv")


def test_a_list_on_standard_input(tmp_path: Path, model: tuple[object, ...], cli: Run) -> None:
    done = cli("-", *model, input=b"in/c d.png\r\n\na.png\nabsent.png\nin/deep")
    assert paths(done) == ["in/c d.png", "a.png", "absent.png", "in/deep/e.jpg"]
    assert b"absent.png,,,,,cannot read it: No such file or directory" in done.stdout


def test_a_pipe_in_a_list_gets_a_row_and_does_not_hang(tmp_path: Path, model: tuple[object, ...], cli: Run) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # without a writer
    done = cli("-", *model, input=b"pipe.png\na.png")
    assert b'pipe.png,,,,,"it is a pipe or a device, not a file"\na.png,red,' in done.stdout


def test_nul_separates_names_with_line_breaks(tmp_path: Path, model: tuple[object, ...], cli: Run) -> None:
    os.link(tmp_path / "a.png", tmp_path / "two\nlines.png")
    done = cli("-", "-0", *model, input=b"two\nlines.png\0a.png\0")
    assert done.stdout.count(b"red,0,") == 2
    assert b'"two\nlines.png",red' in done.stdout
    cli("-", *model, "--output", "rows.csv", input=b"a.png\0a.png\0", code=1)  # -0 is forgotten
    assert (tmp_path / "rows.csv").read_bytes().count(b"a.png") == 2


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in/*.png", ["in/b.png", "in/c d.png"]),
        ("in/**/*", ["in/b.png", "in/c d.png", "in/deep/e.jpg"]),
        ("*", ["a.png", "in/b.png", "in/c d.png", "in/deep/e.jpg", "x.png"]),
        ("in/[bx].png", ["in/b.png"]),
        ("p [2024]/*.png", ["p [2024]/a.png", "p [2024]/b.png"]),  # the folder exists: its name is no pattern
        ("p [2024]/[b].png", ["p [2024]/b.png"]),
        ("p [2024]/**/*.png", ["p [2024]/[x]/c.png", "p [2024]/a.png", "p [2024]/b.png"]),
        ("p [2024]/[x]/*", ["p [2024]/[x]/c.png"]),
        ("p [2024]/[x]", ["p [2024]/[x]/c.png"]),
        ("p [2024]/?x?/c.*", ["p [2024]/[x]/c.png"]),
        ("./p [2024]/a*", ["./p [2024]/a.png"]),
        ("p [0-9]/a.png", ["p 2/a.png"]),  # no folder of this name: the brackets are a pattern
        ("p [[]2024]/a.png", ["p [2024]/a.png"]),
        ("p*[[]*/a.png", ["p [2024]/a.png"]),
        ("in/../p [2024]/a*", ["in/../p [2024]/a.png"]),
    ],
)
def test_patterns(tmp_path: Path, model: tuple[object, ...], cli: Run, pattern: str, found: list[str]) -> None:
    if pattern != "*":
        for name in ("p [2024]/a.png", "p [2024]/b.png", "p [2024]/[x]/c.png", "p 2/a.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(tmp_path / "a.png", tmp_path / name)
    assert paths(cli(pattern, *model)) == found


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path, model: tuple[object, ...], cli: Run) -> None:
    os.link(tmp_path / "a.png", tmp_path / "in" / "[bc].png")
    assert paths(cli("in/[bc].png", *model)) == ["in/[bc].png"]


def test_a_pattern_without_a_match_is_one_line(model: tuple[object, ...], refused: Refused) -> None:
    assert refused("in/*.bmp", *model) == "cnn-infer: no picture and no folder matches in/*.bmp"
    assert "is not a list of paths" in refused("-", *model, input=b"x" * (LONGEST + 1))
    assert "no pictures found" in refused("-", *model, input=b"")


def test_a_full_disk_for_temporary_files_is_one_line(
    tmp_path: Path, model: tuple[object, ...], refused: Refused, environment: dict[str, str]
) -> None:
    environment["TMPDIR"] = str(tmp_path)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    line = refused("-", *model, input=b"a.png\n" * 200_000, preexec_fn=limit)
    start = "cnn-infer: the list of files is too long for memory, and a temporary file cannot be written in"
    assert line.startswith(f"{start} {tmp_path}: File too large (free space, ")
    assert line.endswith("or set TMPDIR to another folder)")


def test_no_folder_for_temporary_files_is_one_line(model: tuple[object, ...], refused: Refused) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    line = refused("-", *model, input=b"a.png\n" * 200_000, preexec_fn=limit)
    assert "a temporary file cannot be written: No usable temporary directory found in [" in line


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_long_lists_are_complete_and_can_be_read_twice(separator: bytes) -> None:
    names = [b"%d" % number + b"n" * (number % 500) for number in range(20_000)]
    listed = Listed(io.BytesIO(separator.join(names)), separator)
    for _ in range(2):
        assert [os.fsencode(name) for name in listed] == names


def test_memory_does_not_grow_with_the_list() -> None:
    peaks = []
    for count in (2_000, 8_000):
        with tempfile.TemporaryFile() as given:
            given.write(b"".join(b"in/%01000d.png\n" % number for number in range(count)))
            given.seek(0)
            tracemalloc.start()
            found = sum(1 for _ in find_below([Listed(given)]))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert found == count
    assert peaks[1] < 1.1 * peaks[0]
