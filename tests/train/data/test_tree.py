"""Folders of pictures as people have them: split names, system folders, Unicode forms, and what is left out."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from cnn_infer.paths.skipped import SYSTEM_NAMES
from cnn_train import open_source
from cnn_train.errors import DataError

NFC = unicodedata.normalize("NFC", "Bär")
NFD = unicodedata.normalize("NFD", "Bär")


def fill(root: Path, *folders: str, count: int = 5) -> Path:
    """Empty files will do: finding pictures does not open them."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.jpg").touch()
    return root


def classes_below(*splits: str) -> list[str]:
    return [f"{split}/{name}" for split in splits for name in ("cat", "dog")]


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "VALIDATION", "TESTING"),
        ("Training", "valid", "Testing"),
        ("train", "dev", "test"),
    ],
)
def test_split_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    source = open_source(str(fill(tmp_path, *classes_below(train, val, test))))
    assert source.classes == ("cat", "dog")
    assert source.notes == ()
    for split, folder in (("train", train), ("val", val), ("test", test)):
        assert {Path(path).parts[-3] for path in source.splits[split].pictures} == {folder}


@pytest.mark.parametrize(
    "others", [("bus", "Train", "tram"), ("training", "bus"), ("valid", "invalid"), ("Test", "bus")]
)
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, others: tuple[str, ...]) -> None:
    assert open_source(str(fill(tmp_path, *others))).classes == tuple(sorted(others))


@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (classes_below("train", "valid", "validation"), "are both the val split: rename one"),
        (classes_below("train", "training"), "are both the train split: rename one"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "move the pictures to .*train/cat and so on"),
        (["cat/Training", "cat/Validation", "dog"], "cat contains Training and Validation, but class folders"),
        (["pets/train/cat", "pets/train/dog", "pets/test/cat"], "give .*/pets as the data set"),
        (
            classes_below("training_set", "test_set"),
            "folders test_set and training_set, .* rename them to test and train",
        ),
        (classes_below("train2017", "val2017"), "rename them to train and val"),
        (classes_below("Valid", "Testing"), "has Testing and Valid but no train folder"),
        ([f"train/{NFC}", f"train/{NFD}", "train/dog"], "differ only in how Unicode writes"),
        ([f"train/{NFC}", "train/dog", f"test/{NFC}", f"test/{NFD}"], "differ only in how Unicode writes"),
    ],
)
def test_refused_layouts(tmp_path: Path, folders: list[str], reason: str) -> None:
    assert re.search(reason, refused(fill(tmp_path, *folders)))


@pytest.mark.parametrize("folders", [["red/camera1", "red/camera2", "blue/camera1"], ["red/train", "red/car", "blue"]])
def test_nested_folders_stay_a_part_of_their_class(tmp_path: Path, folders: list[str]) -> None:
    assert open_source(str(fill(tmp_path, *folders))).classes == ("blue", "red")


@pytest.mark.parametrize("name", sorted({*SYSTEM_NAMES, "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".ipynb_checkpoints"}))
def test_system_folders_are_never_classes_and_never_searched(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "flat", "cat", "dog", name, f"cat/{name}")
    fill(tmp_path / "split", *classes_below("train", "test"), name, f"train/{name}", f"test/dog/{name}", f"test/{name}")
    for layout, count in (("flat", 10), ("split", 20)):
        source = open_source(str(tmp_path / layout))
        assert source.classes == ("cat", "dog")
        assert sum(len(split.labels) for split in source.splits.values()) == count
        assert not any("left out" in note for note in source.notes)


@pytest.mark.parametrize(("train", "test"), [(NFC, NFD), (NFD, NFC), (NFD, NFD)])
def test_names_are_compared_in_one_unicode_form(tmp_path: Path, train: str, test: str) -> None:
    source = open_source(str(fill(tmp_path, f"train/{train}", "train/dog", f"test/{test}", "test/dog")))
    assert source.classes == (NFC, "dog")
    assert source.splits["test"].labels.tolist() == [0] * 5 + [1] * 5
    assert {Path(path).parent.name for path in source.splits["test"].pictures} == {test, "dog"}  # as on the disk
    assert not any("is called" in note for note in source.notes)


def test_class_folders_take_a_given_order_only_if_they_have_these_names(tmp_path: Path) -> None:
    fill(tmp_path, "e\u0301cole", "eel", "zoo")  # as it is on the disk, the school comes after the eel
    assert open_source(str(tmp_path)).classes == ("eel", "\xe9cole", "zoo")
    given = ("eel", "zoo", "\xe9cole")
    source = open_source(str(tmp_path), classes=given)
    assert source.classes == given
    assert [source.classes[label] for label in source.splits["train"].labels] == [
        unicodedata.normalize("NFC", Path(path).parent.name) for path in source.splits["train"].pictures
    ]
    assert open_source(str(tmp_path), classes=("zoo", "eel")).classes == ("eel", "\xe9cole", "zoo")


def test_what_is_left_out_is_counted_in_one_line(tmp_path: Path) -> None:
    fill(tmp_path, "data/cat", "data/dog", "elsewhere")
    for name in ("a.txt", "b.TXT", "clip.mp4", "README", ".hidden", "Thumbs.db", "desktop.ini"):
        (tmp_path / "data" / "cat" / name).touch()
    (tmp_path / "data" / "dog" / "link").symlink_to(tmp_path / "elsewhere")
    notes = open_source(str(tmp_path / "data")).notes
    text = "left out: 4 files of other kinds (.txt 2, "
    assert [note for note in notes if note.startswith(text)] == [
        note for note in notes if "and 1 link to a folder in the class folders of " in note
    ]
    assert sum(note.startswith("left out") for note in notes) == 1


def test_a_class_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog")
    for number in range(12):
        (tmp_path / "dog" / f"{number}.jpg").rename(tmp_path / "dog" / f"{number}.raw") if number < 5 else (
            tmp_path / "dog" / f"{number}.raw"
        ).touch()
    assert "dog has no pictures (12 files of other kinds (.raw 12) left out): add some or remove it" in refused(
        tmp_path
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_list_of_classes_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    labels = np.tile([0, 1], 20).astype(np.uint8)
    for name, array in (("images-idx3", np.zeros((40, 4, 4), np.uint8)), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
    (tmp_path / "classes.txt").write_bytes(f"hat\r\n{NFD}\r\n".encode(encoding))
    assert open_source(str(tmp_path)).classes == ("hat", NFC)
