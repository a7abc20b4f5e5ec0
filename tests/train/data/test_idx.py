"""IDX files: read when whole, refused in one line when not."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from cnn_train.data.idx import find_idx, load_idx, read_idx
from cnn_train.errors import DataError

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([0, 1, 0, 1, 2], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_set(folder: Path, *, suffix: str = "", dash: str = "-") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        for kind, array in (("images", IMAGES), ("labels", LABELS)):
            data = idx(array)
            name = f"{part}-{kind}{dash}idx{array.ndim}-ubyte{suffix}"
            (folder / name).write_bytes(gzip.compress(data) if suffix else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
@pytest.mark.parametrize("below", ["", "MNIST/raw", "FashionMNIST/raw"])
def test_a_set_is_found_and_read(tmp_path: Path, suffix: str, dash: str, below: str) -> None:
    write_set(tmp_path / below, suffix=suffix, dash=dash)
    files = find_idx(tmp_path)
    assert files is not None
    loaded = load_idx(files)
    assert loaded.test is not None
    for images, labels in (loaded.train, loaded.test):
        np.testing.assert_array_equal(images[..., 0], IMAGES)
        np.testing.assert_array_equal(labels, LABELS)


def test_a_plain_file_comes_before_its_gz(tmp_path: Path) -> None:
    write_set(tmp_path, suffix=".gz")
    write_set(tmp_path)
    files = find_idx(tmp_path)
    assert files is not None
    assert not [path for path in files.values() if path.suffix == ".gz"]


def test_a_folder_without_such_files_is_none(tmp_path: Path) -> None:
    (tmp_path / "train-images.txt").write_text("")
    assert find_idx(tmp_path) is None


def test_the_test_files_may_be_absent(tmp_path: Path) -> None:
    write_set(tmp_path)
    for path in tmp_path.glob("t10k*"):
        path.unlink()
    files = find_idx(tmp_path)
    assert files is not None
    assert load_idx(files).test is None


@pytest.mark.parametrize("lost", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_half_a_pair_is_an_error(tmp_path: Path, lost: str) -> None:
    write_set(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(DataError, match=lost[:11]):
        find_idx(tmp_path)


def test_two_sets_under_one_folder_are_an_error(tmp_path: Path) -> None:
    write_set(tmp_path / "MNIST/raw")
    write_set(tmp_path / "FashionMNIST/raw")
    with pytest.raises(DataError, match="several data sets"):
        find_idx(tmp_path)


WHOLE = idx(IMAGES)
DAMAGED = {
    "empty": (b"", "not an IDX file"),
    "text": (b"hello, world", "not an IDX file"),
    "floats": (b"\0\0\x0d\x03" + WHOLE[4:], "not an IDX file"),
    "header cut": (WHOLE[:9], "within its header"),
    "pixels cut": (WHOLE[:-1], "has only 59 bytes of data where its header announces 60"),
    "too long": (WHOLE + b"x", "has more bytes of data where its header announces 60"),
    "absurd size": (b"\0\0\x08\x03" + b"\xff" * 12, "announces .* bytes: download"),
    "gzip cut": (gzip.compress(WHOLE)[:-12], "damaged gzip"),
    "gzip flipped": (gzip.compress(WHOLE)[:-8] + b"\0\0\0\0" + gzip.compress(WHOLE)[-4:], "damaged gzip"),
    "gzip of less": (gzip.compress(WHOLE[:-1]), "has only 59 bytes of data where its header announces 60"),
    "gzip garbage": (b"\x1f\x8b\x08" + b"\xff" * 40, "damaged gzip"),
}


@pytest.mark.parametrize(("data", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_one_line_with_the_file(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("train-labels-idx1-ubyte", LABELS[:4], "5 pictures but"),
        ("train-labels-idx1-ubyte", IMAGES, "not a list of labels"),
        ("train-images-idx3-ubyte", LABELS, "not grey pictures"),
        ("t10k-images-idx3-ubyte", IMAGES[:, :3], "differ in size"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, name: str, array: np.ndarray, reason: str) -> None:
    write_set(tmp_path)
    (tmp_path / name).write_bytes(idx(array))
    files = find_idx(tmp_path)
    assert files is not None
    with pytest.raises(DataError, match=reason):
        load_idx(files)
