"""Unused entries of the cache are removed after a month; files of other people in the same folder never are."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_train import Dataset, open_source, prepare

HEX = "0123456789abcdef" * 2
INDEX = json.dumps({"unreadable": [], "fingerprint": "ab"})
HEADERS = json.dumps({"kinds": [[8, 6, False]], "unreadable": []})
ARRAY = b"\x93NUMPY\x01\x00"
PARTIAL_HEADERS = f".headers-{HEX}.json.01abcdef.partial"
PARTIAL = f".{HEX}.abcd_123.partial"


def age(path: Path, days: float) -> None:
    os.utime(path, (path.stat().st_mtime - 86400 * days,) * 2)


def write(root: Path, *files: str) -> None:
    root.mkdir(parents=True)
    for name in files:
        (root / name).write_bytes(b"mine")


def entry(folder: Path, *others: str, index: str = INDEX) -> None:
    """A folder as a training writes it, with ``others`` beside the two files of an entry."""
    write(folder, "pictures.npy", *others)
    (folder / "index.json").write_text(index)


def linked_folder(cache: Path) -> None:
    entry(cache.parent / "elsewhere")
    (cache / HEX).symlink_to(cache.parent / "elsewhere")


def linked_pictures(cache: Path) -> None:
    write(cache.parent / "disk", "pictures.npy")
    entry(cache / HEX)
    (cache / HEX / "pictures.npy").unlink()
    (cache / HEX / "pictures.npy").symlink_to(cache.parent / "disk" / "pictures.npy")


def linked_headers(cache: Path) -> None:
    (cache.parent / "document.json").write_text(HEADERS)
    (cache / f"headers-{HEX}.json").symlink_to(cache.parent / "document.json")


Make = Callable[[Path], object]

FOREIGN: dict[str, Make] = {
    "a file named like an entry": lambda cache: (cache / HEX).write_bytes(b"mine"),
    "a file named like a partial entry": lambda cache: (cache / PARTIAL).write_bytes(b"mine"),
    "headers of something else": lambda cache: (cache / f"headers-{HEX}.json").write_text('{"etag": "x"}'),
    "partial headers of something else": lambda cache: (cache / PARTIAL_HEADERS).write_text('{"etag": "x"}'),
    "headers that are not JSON": lambda cache: (cache / f"headers-{HEX}.json").write_text("mine"),
    "features that are no array": lambda cache: (cache / f"features-{HEX}.npy").write_bytes(b"mine"),
    "a folder named like headers": lambda cache: write(cache / f"headers-{HEX}.json"),
    "an empty folder": lambda cache: write(cache / HEX),
    "a folder with other files": lambda cache: write(cache / HEX, "thesis.txt"),
    "pictures without an index": lambda cache: write(cache / HEX, "pictures.npy"),
    "an index of something else": lambda cache: entry(cache / HEX, index='{"pages": 3}'),
    "an index that is not JSON": lambda cache: entry(cache / HEX, index="mine"),
    "an entry with a file beside its own": lambda cache: entry(cache / HEX, "notes.txt"),
    "an entry with a folder in it": lambda cache: (entry(cache / HEX), write(cache / HEX / "more", "mine.txt")),
    "a folder in place of the pictures": lambda cache: write(cache / HEX / "pictures.npy", "mine"),
    "a partial entry with another file": lambda cache: write(cache / PARTIAL, "pictures.npy", "notes.txt"),
    "a longer name": lambda cache: entry(cache / f"{HEX}0"),
    "a name in capitals": lambda cache: entry(cache / HEX.upper()),
    "any other folder": lambda cache: entry(cache / "notes"),
    "a link to a folder": linked_folder,
    "a link to the pictures": linked_pictures,
    "a link to headers": linked_headers,
    "a link to nothing": lambda cache: (cache / HEX).symlink_to("gone"),
}

OURS: dict[str, Make] = {
    "an entry": lambda cache: entry(cache / HEX),
    "an entry without its pictures": lambda cache: (entry(cache / HEX), (cache / HEX / "pictures.npy").unlink()),
    "headers": lambda cache: (cache / f"headers-{HEX}.json").write_text(HEADERS),
    "partial headers": lambda cache: (cache / PARTIAL_HEADERS).write_text(HEADERS[:15]),
    "partial headers without content": lambda cache: (cache / PARTIAL_HEADERS).touch(),
    "features": lambda cache: (cache / f"features-{HEX}.npy").write_bytes(ARRAY),
    "partial features": lambda cache: (cache / f".features-{HEX}.npy.01abcdef.partial").write_bytes(ARRAY),
    "an empty partial entry": lambda cache: write(cache / PARTIAL),
    "a partial entry": lambda cache: write(cache / PARTIAL, "pictures.npy"),
    "a partial entry with a partial index": lambda cache: write(
        cache / PARTIAL, "pictures.npy", ".index.json.01abcdef.partial"
    ),
}


@pytest.fixture
def load(photos: Path, tmp_path: Path) -> Callable[..., Dataset]:
    """Prepare a small data set with the folder ``cache``: the cleanup is a part of it."""
    return lambda **options: prepare(open_source(str(photos)), cache=tmp_path / "cache", **options)


def snapshot(root: Path) -> dict[str, bytes | None]:
    """The content of every file below a folder; links are followed."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def make_old(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for inside in path.rglob("*"):
            os.utime(inside, (0, 0), follow_symlinks=False)
    os.utime(path, (0, 0), follow_symlinks=False)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_certainly_ours_stays(load: Callable[..., Dataset], tmp_path: Path, make: Make) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    make(cache)
    before = snapshot(tmp_path)
    [foreign] = cache.iterdir()
    make_old(foreign)
    load()
    after = snapshot(tmp_path)
    assert {path: after.get(path, "gone") for path in before} == before
    assert foreign.is_symlink() or foreign.exists()


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_what_is_ours_is_removed_after_a_month(load: Callable[..., Dataset], tmp_path: Path, make: Make) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    make(cache)
    [ours] = cache.iterdir()
    age(ours, 29)
    load()
    assert ours.exists()
    age(ours, 2)
    load()
    assert not ours.exists()


def test_entries_in_use_stay_and_unused_ones_are_removed(load: Callable[..., Dataset], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    load()
    used = set(cache.iterdir())
    load(size=4)
    unused = set(cache.iterdir()) - used
    assert (len(used), len(unused)) == (4, 3)  # three splits, and the headers that both share
    for path in (*used, *unused):
        age(path, 31)
    load()  # marks what it reads before anything is removed
    assert set(cache.iterdir()) == used


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind this user")
def test_an_entry_that_cannot_be_removed_does_not_keep_the_others(load: Callable[..., Dataset], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    names = [digit * 32 for digit in "123456"]
    for name in names:
        entry(cache / name)
        make_old(cache / name)
    for name in names[::2]:
        (cache / name).chmod(0o555)
    load()
    assert {path.name for path in cache.iterdir()} & set(names) == set(names[::2])
