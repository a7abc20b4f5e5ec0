"""From files to arrays: decoded once, cached, and bad files named and left out."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.spec import Spec
from cnn_infer.system.machine import usable_cpus
from cnn_train.data.dataset import Dataset, Split, prepare, read_split
from cnn_train.data.decode import Outcome, decoded, in_order
from cnn_train.data.decode_cache import store
from cnn_train.data.source import Source, open_source
from cnn_train.errors import ConfigError, DataError
from PIL import Image

Size = tuple[int, int]


def save(path: Path, size: Size = (8, 6), *, mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)


def make_tree(root: Path, *, size: Size = (8, 6), mode: str = "RGB", ending: str = "bmp", count: int = 6) -> Path:
    seeds = itertools.count()
    for split, name in itertools.product(("train", "val", "test"), ("cat", "dog")):
        for at in range(count):
            save(root / split / name / f"{at}.{ending}", size, mode=mode, seed=next(seeds))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "pets")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    """Open and prepare a folder with a cache of its own."""
    return lambda folder, **options: prepare(open_source(str(folder)), **{"cache": tmp_path / "cache", **options})


def spec_of(dataset: Dataset) -> Spec:
    return Spec(
        dataset.source.classes, dataset.height, dataset.width, dataset.colour, dataset.resize, dataset.filter, 0, 1.0
    )


def assert_is_what_inference_sees(split: Split, spec: Spec) -> None:
    assert len(split.images) == len(split.labels) == len(split.names) > 0
    for pixels, name in zip(split.images, split.names, strict=True):
        np.testing.assert_array_equal(pixels, to_pixels(name, spec))


# pixels


def test_every_picture_is_what_inference_sees(tree: Path, load: Callable[..., Dataset]) -> None:
    dataset = load(tree)
    assert (dataset.height, dataset.width, dataset.colour) == (6, 8, "rgb")
    assert list(dataset.splits) == ["train", "val", "test"]
    for name, split in dataset.splits.items():
        assert_is_what_inference_sees(split, spec_of(dataset))
        assert split.labels.tolist() == [0] * 6 + [1] * 6
        assert all(f"/{name}/" in Path(path).as_posix() for path in split.names)
    assert isinstance(dataset.train.images, np.memmap)
    assert not dataset.train.images.flags.writeable


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_sizes_and_ways_of_resizing_are_kept_apart(tree: Path, load: Callable[..., Dataset], resize: str) -> None:
    load(tree)
    dataset = load(tree, size=(4, 5), resize=resize, filter="lanczos", colour="grey")
    assert dataset.test.images.shape == (12, 4, 5, 1)
    assert_is_what_inference_sees(dataset.test, spec_of(dataset))


def test_different_sizes_become_squares_of_128(tree: Path, load: Callable[..., Dataset]) -> None:
    save(tree / "test" / "dog" / "0.bmp", (9, 6))
    dataset = load(tree)
    assert (dataset.height, dataset.width) == (128, 128)


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 100), (100, 128)), ((129, 100), (128, 128)), ((9, 129), (128, 128))]
)
def test_equal_sizes_are_kept_up_to_128(
    tmp_path: Path, load: Callable[..., Dataset], size: Size, expected: Size
) -> None:
    dataset = load(make_tree(tmp_path / "p", size=size, count=1))
    assert (dataset.height, dataset.width) == expected


def test_grey_only_where_every_picture_is_grey(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    root = make_tree(tmp_path / "grey", mode="L", ending="png")
    assert load(root).colour == "grey"
    save(root / "val" / "cat" / "0.png")
    assert load(root).colour == "rgb"


def test_a_senseless_size_is_refused(tree: Path, load: Callable[..., Dataset]) -> None:
    for size in (-1, 5000):
        with pytest.raises(ConfigError, match="size"):
            load(tree, size=size)


def test_arrays_stay_as_they_are_or_are_resized(tmp_path: Path) -> None:
    source = open_source("digits")
    own = prepare(source, cache=tmp_path)
    assert (own.height, own.width, own.colour) == (8, 8, "grey")
    np.testing.assert_array_equal(own.train.images, source.splits["train"].pictures)
    assert own.test.names[17] == "test[17]"
    larger = prepare(source, size=12, colour="rgb", cache=tmp_path)
    expected = to_pixels(np.asarray(source.splits["test"].pictures[5]), spec_of(larger))
    np.testing.assert_array_equal(larger.test.images[5], expected)
    assert larger.fingerprints == own.fingerprints
    assert not list(tmp_path.iterdir())


# cache


def repaint(path: Path) -> None:
    """Other pixels, the same number of bytes and the same time: only decoding again would notice."""
    status = path.stat()
    save(path, seed=999)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_second_run_decodes_nothing(tree: Path, load: Callable[..., Dataset]) -> None:
    first = load(tree)
    for path in tree.rglob("*.bmp"):
        repaint(path)
    second = load(tree)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert first.fingerprints == second.fingerprints


def test_a_later_time_or_another_size_decodes_again(tree: Path, load: Callable[..., Dataset]) -> None:
    load(tree)
    path = tree / "test" / "cat" / "0.bmp"
    repaint(path)
    os.utime(path, ns=(1, 1))
    dataset = load(tree)
    assert_is_what_inference_sees(dataset.test, spec_of(dataset))


def test_another_number_of_bytes_decodes_again(tree: Path, load: Callable[..., Dataset]) -> None:
    load(tree)
    path = tree / "test" / "cat" / "0.bmp"
    status = path.stat()
    repaint(path)
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    dataset = load(tree)
    assert_is_what_inference_sees(dataset.test, spec_of(dataset))


def test_another_way_of_resizing_decodes_again(tree: Path, load: Callable[..., Dataset]) -> None:
    for options in ({"resize": "crop"}, {"resize": "pad"}, {"resize": "pad", "filter": "box"}):
        dataset = load(tree, size=4, **options)
        assert_is_what_inference_sees(dataset.test, spec_of(dataset))


def test_a_new_class_moves_the_labels_of_pictures_that_stay(tree: Path, load: Callable[..., Dataset]) -> None:
    before = load(tree).fingerprints
    save(tree / "train" / "ant" / "0.bmp")
    dataset = load(tree)
    assert dataset.test.labels.tolist() == [1] * 6 + [2] * 6
    assert dataset.fingerprints["test"] != before["test"]
    assert dataset.fingerprints["test"] == read_split(dataset.source, "test", spec_of(dataset))[1]


def test_a_moved_picture_or_another_cache_folder_decode_again(
    tree: Path, load: Callable[..., Dataset], tmp_path: Path
) -> None:
    load(tree)
    (tree / "val" / "cat" / "0.bmp").rename(tree / "val" / "dog" / "more.bmp")
    assert load(tree).val.labels.tolist() == [0] * 5 + [1] * 7
    load(tree, cache=tmp_path / "other")
    assert len(list((tmp_path / "other").glob("*/pictures.npy"))) == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("pictures.npy", cut),
        ("pictures.npy", Path.unlink),
        ("pictures.npy", lambda path: np.save(path, np.zeros((12, 3, 3, 3), np.uint8))),
        ("pictures.npy", lambda path: np.save(path, np.zeros((12, 6, 8, 3), np.int16))),
        ("pictures.npy", lambda path: path.write_bytes(b"")),
        ("index.json", cut),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", Path.unlink),
    ],
)
def test_a_damaged_cache_is_rebuilt(
    tree: Path, load: Callable[..., Dataset], tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    load(tree)
    for path in (tmp_path / "cache").glob(f"*/{name}"):
        damage(path)
    for path in (tmp_path / "cache").glob("headers-*.json"):
        cut(path)
    dataset = load(tree)
    assert_is_what_inference_sees(dataset.train, spec_of(dataset))


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"kinds": 3, "unreadable": []}', '{"kinds": [[1e400, 2, 3]], "unreadable": []}', "[" * 100_000],
)
def test_a_damaged_list_of_headers_is_made_again(
    tree: Path, load: Callable[..., Dataset], tmp_path: Path, text: str
) -> None:
    wanted = load(tree)
    (headers,) = (tmp_path / "cache").glob("headers-*.json")
    before = headers.read_text()
    headers.write_text(text)
    assert load(tree).fingerprints == wanted.fingerprints
    assert headers.read_text() == before


def test_an_interrupted_decode_leaves_nothing(tree: Path, load: Callable[..., Dataset], tmp_path: Path) -> None:
    source = open_source(str(tree))
    spec = Spec(source.classes, 6, 8, "rgb", "crop", "bilinear", 0, 1.0)
    records = source.splits["train"]

    def interrupted() -> Iterator[Outcome]:
        yield from itertools.islice(decoded(records.pictures, spec), 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "c" / "entry", interrupted(), str, records.labels, spec, lambda _: None)
    assert not list((tmp_path / "c").iterdir())


FULL_DISK = """
import resource, sys
from cnn_train.data.dataset import prepare
from cnn_train.errors import DataError
from cnn_train.data.source import open_source
source = open_source(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    prepare(source, size=64, cache=sys.argv[2])
except DataError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [0, 10_000])
def test_a_full_disk_is_one_line_and_nothing_left(tree: Path, tmp_path: Path, limit: int) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", FULL_DISK, str(tree), str(cache), str(limit)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("cannot write the picture cache")
    assert "--cache" in ran.stdout
    assert ran.stdout.count("\n") == 1
    assert not [path for path in cache.iterdir() if not path.name.startswith("headers-")]


# bad files


def spoil(tree: Path) -> dict[str, str]:
    """Three bad pictures, each with a word of its reason."""
    (tree / "train" / "cat" / "0.bmp").write_text("not a picture")
    (tree / "train" / "dog" / "0.bmp").write_bytes(b"")
    cut(tree / "test" / "cat" / "0.bmp")
    reasons = {"train/cat": "not a picture", "train/dog": "empty", "test/cat": "damaged"}
    return {str(tree / folder / "0.bmp"): reason for folder, reason in reasons.items()}


def test_unreadable_pictures_are_named_and_left_out(tree: Path, load: Callable[..., Dataset]) -> None:
    expected = spoil(tree)
    for _ in range(2):  # decoded, and then from the cache
        dataset = load(tree)
        assert {path for path, _ in dataset.unreadable} == set(expected)
        assert all(expected[path] in reason for path, reason in dataset.unreadable)
        assert [len(split.images) for split in dataset.splits.values()] == [10, 12, 11]
        assert dataset.train.labels.tolist() == [0] * 5 + [1] * 5
        for split in dataset.splits.values():
            assert_is_what_inference_sees(split, spec_of(dataset))


def test_strict_makes_them_an_error(tree: Path, load: Callable[..., Dataset]) -> None:
    expected = spoil(tree)
    with pytest.raises(DataError, match="3 unreadable pictures") as caught:
        load(tree, strict=True)
    assert all(path in str(caught.value) for path in expected)
    assert "\n" not in str(caught.value)


def test_a_picture_that_becomes_readable_is_decoded(tree: Path, load: Callable[..., Dataset]) -> None:
    path = tree / "train" / "cat" / "0.bmp"
    whole, status = path.read_bytes(), path.stat()
    path.write_bytes(b"x" * len(whole))  # as a permission that was missing: the same size, and the same time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(load(tree).train.images) == 11
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(load(tree).train.images) == 12


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("train/dog/*", "no training picture of the class 'dog'"), ("test/*/*", "no picture of the test split")],
)
def test_a_class_or_split_that_cannot_be_read(
    tree: Path, load: Callable[..., Dataset], pattern: str, reason: str
) -> None:
    for path in tree.glob(pattern):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=reason):
        load(tree)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8(tree: Path, load: Callable[..., Dataset]) -> None:
    name = os.fsdecode(os.fsencode(tree / "train" / "cat") + b"/\xff\xfe \n.bmp")
    save(tree / "new.bmp")
    (tree / "new.bmp").rename(name)
    for _ in range(2):
        dataset = load(tree)
        assert printable(name) in dataset.train.names
    Path(name).write_bytes(b"")
    with pytest.raises(DataError, match=r"\\xff\\xfe"):
        load(tree, strict=True)


# fingerprints and fresh reads


def test_the_fingerprint_is_of_the_bytes_not_of_the_place(
    tree: Path, load: Callable[..., Dataset], tmp_path: Path
) -> None:
    here = load(tree)
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(tree, moved, copy_function=shutil.copyfile)  # new times
    there = load(moved, size=3)
    assert here.fingerprints == there.fingerprints
    assert len(set(here.fingerprints.values())) == 3
    path = moved / "test" / "cat" / "0.bmp"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    changed = load(moved).fingerprints
    assert changed["train"] == here.fingerprints["train"]
    assert changed["test"] != here.fingerprints["test"]
    shutil.copyfile(tree / "test" / "cat" / "0.bmp", path)
    path.rename(path.with_name("00.bmp"))
    assert load(moved).fingerprints["test"] not in (changed["test"], here.fingerprints["test"])


def test_a_fresh_read_ignores_the_cache(tree: Path, load: Callable[..., Dataset]) -> None:
    spoil(tree)
    dataset = load(tree)
    split, fingerprint, unreadable = read_split(dataset.source, "test", spec_of(dataset))
    np.testing.assert_array_equal(split.images, dataset.test.images)
    assert list(split.names) == list(dataset.test.names)
    assert split.labels.tolist() == dataset.test.labels.tolist()
    assert fingerprint == dataset.fingerprints["test"]
    assert unreadable == [entry for entry in dataset.unreadable if "/test/" in Path(entry[0]).as_posix()]
    repaint(tree / "test" / "dog" / "1.bmp")
    split, fingerprint, _ = read_split(dataset.source, "test", spec_of(dataset))
    assert fingerprint != dataset.fingerprints["test"]
    assert_is_what_inference_sees(split, spec_of(dataset))


def test_arrays_have_fingerprints_too(tmp_path: Path) -> None:
    source = open_source("digits")
    fingerprints = prepare(source, cache=tmp_path).fingerprints
    records = source.splits["test"]
    pixels = np.array(records.pictures)
    pixels[3, 0, 0, 0] ^= 1
    splits = {**source.splits, "test": type(records)(pixels, records.labels)}
    other = Source("digits", None, source.classes, splits, ())
    changed = prepare(other, cache=tmp_path).fingerprints
    assert changed["train"] == fingerprints["train"]
    assert changed["test"] != fingerprints["test"]


# threads


def test_results_come_in_order_and_stopping_early_stops_the_work() -> None:
    assert list(in_order(lambda n: n * n, range(1000))) == [n * n for n in range(1000)]
    together = threading.Barrier(min(2, usable_cpus()))
    assert len(list(in_order(lambda _: together.wait(60), range(8)))) == 8  # a few items occupy several threads
    seen: list[int] = []
    results = in_order(seen.append, range(1_000_000))
    next(results)
    results.close()
    assert len(seen) < 100_000
