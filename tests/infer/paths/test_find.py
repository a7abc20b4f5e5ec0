"""Which files are found, and in which order."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import InputError, find_pictures
from cnn_infer.paths.listed import Listed

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, **options: bool) -> list[str]:
    return [os.path.relpath(path, folder) for path in find_pictures([folder], **options)]


def test_folders_are_walked_in_sorted_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.png", "b/10.png", "a.jpg", "c.JPG", "b.gif", "Z.jpeg", "é.webp", "b/a/deep.bmp", "x.tiff")
    assert found(tmp_path) == [
        "Z.jpeg",
        "a.jpg",
        "b/10.png",
        "b/2.png",
        "b/a/deep.bmp",
        "b.gif",
        "c.JPG",
        "x.tiff",
        "é.webp",
    ]


def test_hidden_and_other_files_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", ".b.jpg", ".thumbs/c.jpg", "notes.txt", "jpg", "d.jpg.part", "e.onnx")
    assert found(tmp_path) == ["a.jpg"]


def test_named_files_are_taken_in_the_given_order(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", ".b.jpg", "folder/a.jpg")
    paths = [str(tmp_path / name) for name in ("notes.txt", "folder", ".b.jpg", "notes.txt")]
    assert list(find_pictures(paths)) == [paths[0], str(tmp_path / "folder" / "a.jpg"), paths[2], paths[3]]


def test_links_to_folders_are_followed_on_request(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "out/b.jpg")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "c.jpg").symlink_to(tmp_path / "out" / "b.jpg")
    assert found(tmp_path / "in") == ["a.jpg", "c.jpg"]
    assert found(tmp_path / "in", follow_symlinks=True) == ["a.jpg", "c.jpg", "link/b.jpg"]


def test_a_named_link_to_a_folder_is_walked(tmp_path: Path) -> None:
    touch(tmp_path, "out/b.jpg")
    (tmp_path / "link").symlink_to("out")
    assert found(tmp_path / "link") == ["b.jpg"]


def test_circular_links_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/b/2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(".")
    assert found(tmp_path) == ["a/1.jpg", "a/b/2.jpg"]
    assert found(tmp_path, follow_symlinks=True) == ["a/1.jpg", "a/b/2.jpg"]


@pytest.mark.parametrize("follow", [False, True])
def test_broken_links_count_as_files(tmp_path: Path, follow: bool) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to("absent.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "loop").symlink_to("loop")
    assert found(tmp_path, follow_symlinks=follow) == ["a.jpg", "gone.jpg", "loop.jpg"]


def test_deep_folders(tmp_path: Path) -> None:
    depth = 1200  # deeper than Python recurses
    try:
        here = os.open(tmp_path, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            above, here = here, os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(above)
        os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
        assert found(tmp_path) == ["d/" * depth + "a.jpg"]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # pytest's own cleanup recurses


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file or folder: .*/absent"):
        list(find_pictures([tmp_path / "absent"]))
    with pytest.raises(InputError, match="no such file or folder"):
        list(find_pictures(["a\0b"]))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"neither a file nor a folder: .*/pipe"):
        list(find_pictures([tmp_path / "pipe"]))


def test_an_unreadable_folder_is_an_error_and_in_a_list_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.jpg", "b.jpg")
    folder, file = str(tmp_path / "in"), str(tmp_path / "b.jpg")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot list the folder .*/in: Permission denied"):
        next(iter(find_pictures([file, folder])))
    assert list(find_pictures([Listed(io.BytesIO(f"{folder}\n{file}".encode()))])) == [folder, file]


def test_a_pipe_in_a_folder_does_not_hang(tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "also.jpg").symlink_to("pipe.jpg")
    done = cli("in", "--model", models / "rgb.onnx", "--format", "csv")
    assert [line.split(b",")[0] for line in done.stdout.splitlines()[1:]] == [b"in/a.png"]


def test_a_pattern_on_a_drive_that_is_missing_matches_nothing(tmp_path: Path) -> None:
    """With the rules for paths of Windows, where ``Z:\\`` has no folder above."""
    script = (
        "import ntpath, os; from cnn_infer import InputError, find_pictures; find_pictures; os.path = ntpath\n"
        "for pattern in ('Z:\\\\*.jpg', 'Z:\\\\photos\\\\**\\\\*.jpg', 'Z:*.jpg', '\\\\\\\\box\\\\share\\\\*.jpg'):\n"
        "    try:\n        list(find_pictures([pattern]))\n    except InputError as error:\n        print(error)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stderr
    assert done.stdout.count("no picture and no folder matches ") == 4


def test_the_command_follows_links_on_request(
    tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "in" / "a.png", "red")
    picture(tmp_path / "out" / "b.png", "red")
    (tmp_path / "in" / "link").symlink_to("../out")
    (tmp_path / "out" / "back").symlink_to("../in")
    for options, names in (((), [b"in/a.png"]), (("--follow-symlinks",), [b"in/a.png", b"in/link/b.png"])):
        done = cli("in", "--model", models / "rgb.onnx", "--format", "csv", *options)
        assert [line.split(b",")[0] for line in done.stdout.splitlines()[1:]] == names
