"""Files that come from the disk are read ahead of the threads that decode them; files in memory are not."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from cnn_infer import Classifier

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs posix_fadvise")

COUNT = 300


@pytest.fixture
def pictures(tmp_path: Path, picture: Callable[..., Path]) -> list[Path]:
    picture(tmp_path / "a.png", "red")
    for number in range(COUNT):
        os.link(tmp_path / "a.png", tmp_path / f"{number:03}.png")
    os.mkfifo(tmp_path / "pipe.png")
    return [tmp_path / f"{number:03}.png" for number in range(COUNT)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that the kernel is asked to read."""
    sizes: list[int] = []

    def note(descriptor: int, start: int, length: int, advice: int) -> None:
        assert (start, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "posix_fadvise", note)
    return sizes


def disk(monkeypatch: pytest.MonkeyPatch, blocks: Iterator[int]) -> None:
    """Set the number of blocks that the kernel counts as read from disks, at each look."""
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_inblock=next(blocks)))


def test_files_from_the_disk_are_read_ahead(
    rgb: Classifier, pictures: list[Path], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, count(8, 8))
    left = rgb.predict_many(pictures, batch_size=4, workers=2)
    assert next(left).label == "red"
    assert 0 < len(asked) <= 6 * 4  # the batches in memory, and the one that is put together
    assert [found.label for found in left] == ["red"] * (COUNT - 1)
    assert asked == [pictures[0].stat().st_size] * COUNT


def test_files_in_memory_are_not_asked_for(
    rgb: Classifier, pictures: list[Path], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, iter([0, 0, *[8] * COUNT]))  # one block, for example of a library
    assert len(list(rgb.predict_many(pictures, batch_size=4, workers=2))) == COUNT
    assert len(asked) == 32


def test_what_cannot_be_read_ahead_keeps_its_error(
    rgb: Classifier, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, count(8, 8))
    odd: list[str | Path | bytes] = [
        pictures[0].parent / "pipe.png",
        "absent.png",
        "a\0b.png",
        pictures[0].parent,
        pictures[0].read_bytes(),
    ]
    found = [str(row) for row in rgb.predict_many(odd, batch_size=2, workers=2, errors="yield")]
    reasons = ("a pipe or a device", "No such file", "null byte", "it is a folder", "label='red'")
    for row, reason in zip(found, reasons, strict=True):
        assert reason in row
