"""--test-pictures: the test split as PNG files in class folders, pixel for pixel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_train import DataError, Dataset, RunError, open_source, prepare
from cnn_train.data.test_pictures import write_test_pictures
from PIL import Image


def read(folder: Path) -> dict[int, tuple[str, np.ndarray]]:
    """Class folder and pixels by the number in the file's name."""
    return {int(path.stem): (path.parent.name, np.asarray(Image.open(path))) for path in folder.rglob("*.png")}


def check(dataset: Dataset, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == set(dataset.source.classes)
    found = read(folder)
    assert sorted(found) == list(range(len(dataset.test.labels)))
    for number, (name, pixels) in found.items():
        assert name == dataset.source.classes[dataset.test.labels[number]]
        np.testing.assert_array_equal(pixels.reshape(dataset.test.images[number].shape), dataset.test.images[number])


def test_grey_pictures_are_equal_to_the_test_split(digits: Dataset, tmp_path: Path) -> None:
    write_test_pictures(digits, tmp_path / "deep" / "pictures")
    check(digits, tmp_path / "deep" / "pictures")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pictures"]


def test_colour_pictures_are_equal_to_the_test_split(photos: Path, tmp_path: Path) -> None:
    dataset = prepare(open_source(str(photos)), size=12, cache=tmp_path / "cache")
    write_test_pictures(dataset, tmp_path / "pictures")
    check(dataset, tmp_path / "pictures")


def test_a_folder_that_is_not_empty_is_replaced_only_on_demand(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "000000.png").write_bytes(b"")
    with pytest.raises(RunError, match=r"other is not empty: --test-pictures writes the test split there: pass"):
        write_test_pictures(digits, tmp_path / "other")
    assert not (tmp_path / "other" / "000000.png").read_bytes()
    write_test_pictures(digits, tmp_path / "other", overwrite=True)
    check(digits, tmp_path / "other")


def test_a_link_stays_and_its_folder_is_replaced(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "pictures").symlink_to(tmp_path / "disk")
    write_test_pictures(digits, tmp_path / "pictures")
    assert (tmp_path / "pictures").is_symlink()
    check(digits, tmp_path / "disk")


def test_what_is_no_test_picture_is_never_lost(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "deep" / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match=r"thesis.txt is not a test picture and would be lost"):
        write_test_pictures(digits, tmp_path / "work", overwrite=True)
    assert (tmp_path / "work" / "deep" / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize(("name", "problem"), [("photos", "lies in"), ("photos/red", "lies in"), (".", "contains")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_data_set_itself_is_never_replaced(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, problem: str, overwrite: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = prepare(open_source("photos"), size=12, cache=tmp_path / "cache")
    with pytest.raises(DataError, match=rf"^{name} {problem} the data set \S*photos: name another .* --test-pictures"):
        write_test_pictures(dataset, Path(name), overwrite=overwrite)
    assert len(list(photos.rglob("*.jpg"))) == 36


def test_the_command_writes_them(command: Callable[..., tuple[int, str]], digits: Dataset, tmp_path: Path) -> None:
    code, text = command("--model", "nano", "--epochs", "1", "--batch-size", "512", "--test-pictures", "pictures")
    assert code == 0, text
    assert "wrote 179 test pictures to pictures/" in text
    check(digits, tmp_path / "pictures")
