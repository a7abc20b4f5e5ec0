"""From a name or folder to classes and splits: every layout, and one line for a folder that is no data set."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from cnn_train.data.named_sets import CLASSES_BY_LABELS, FASHION_CLASSES, holds, known_classes
from cnn_train.data.source import MAX_VALIDATION, Source, folder_name, open_source
from cnn_train.data.user_cache import user_cache
from cnn_train.errors import DataError


def add(folder: Path, *names: str) -> None:
    """Empty files will do: finding pictures does not open them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def numbered(count: int) -> list[str]:
    return [f"{at:03}.jpg" for at in range(count)]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def add_idx(folder: Path, labels: np.ndarray, *, test: bool = True, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k") if test else ("train",):
        images = np.full((len(labels), 4, 4), value, np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels.astype(np.uint8)))


def sizes(source: Source) -> dict[str, int]:
    return {name: len(records.labels) for name, records in source.splits.items()}


def paths(source: Source, split: str) -> set[str]:
    return {str(path) for path in source.splits[split].pictures}


def refused(data: Path, reason: str) -> str:
    with pytest.raises(DataError, match=reason) as caught:
        open_source(str(data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# folders, one a class


def test_class_folders_are_divided_80_10_10(tmp_path: Path) -> None:
    for name, count in (("cat", 50), ("dog", 100), ("owl", 150)):
        add(tmp_path / "pets" / name, *numbered(count))
    source = open_source(str(tmp_path / "pets"), seed=4)
    assert (source.name, source.location, source.classes) == ("pets", str(tmp_path / "pets"), ("cat", "dog", "owl"))
    assert sizes(source) == {"train": 240, "val": 30, "test": 30}
    parts = [paths(source, split) for split in source.splits]
    assert len(set.union(*parts)) == 300
    for records in source.splits.values():
        assert [source.classes[label] for label in records.labels] == [Path(p).parent.name for p in records.pictures]
        share = np.bincount(records.labels) / len(records.labels)
        np.testing.assert_allclose(share, [1 / 6, 2 / 6, 3 / 6], atol=0.04)
    assert any("no test split: 30 of 300" in note for note in source.notes)


def test_the_division_follows_the_seed_alone(tmp_path: Path) -> None:
    for order, root in ((1, tmp_path / "a"), (-1, tmp_path / "b")):
        for name in ["cat", "dog"][::order]:
            add(root / name, *numbered(40)[::order])
    relative = [
        [Path(p).relative_to(source.location or "").as_posix() for p in source.splits["test"].pictures]
        for source in (open_source(str(tmp_path / "a"), seed=1), open_source(str(tmp_path / "b"), seed=1))
    ]
    assert relative[0] == relative[1]
    other = open_source(str(tmp_path / "a"), seed=2)
    assert relative[0] != [Path(p).relative_to(tmp_path / "a").as_posix() for p in other.splits["test"].pictures]


def test_nested_folders_count_and_hidden_ones_do_not(tmp_path: Path) -> None:
    add(tmp_path / "cat", "old/deep/1.jpg", "2.JPEG", "3.png", ".hidden.jpg", "notes.txt", ".cache/4.jpg")
    add(tmp_path / "dog", *numbered(3))
    add(tmp_path / ".git", "x.jpg")
    add(tmp_path, "stray.jpg")
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert sizes(source) == {"train": 2, "val": 2, "test": 2}
    assert any("left out: 1 picture in" in note for note in source.notes)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "tram"):
        add(tmp_path / name, *numbered(5))
    assert open_source(str(tmp_path)).classes == ("bus", "train", "tram")


# train, val, test


def add_splits(root: Path, **counts: int) -> None:
    for split, count in counts.items():
        for name in ("cat", "dog"):
            add(root / split / name, *numbered(count))


def test_given_splits_are_kept(tmp_path: Path) -> None:
    add_splits(tmp_path, train=10, val=3, test=4)
    source = open_source(str(tmp_path))
    assert sizes(source) == {"train": 20, "val": 6, "test": 8}
    assert source.notes == ()
    assert all("/val/" in Path(path).as_posix() for path in paths(source, "val"))


def test_validation_comes_from_training(tmp_path: Path) -> None:
    add_splits(tmp_path, train=50, test=4)
    source = open_source(str(tmp_path))
    assert sizes(source) == {"train": 90, "val": 10, "test": 8}
    assert not paths(source, "val") & paths(source, "train")


def test_a_missing_test_folder_is_replaced_and_noted(tmp_path: Path) -> None:
    add_splits(tmp_path, train=50, val=4)
    source = open_source(str(tmp_path))
    assert sizes(source) == {"train": 90, "val": 8, "test": 10}
    assert any("no test split: 10 of 100" in note for note in source.notes)


def test_classes_are_mapped_by_name(tmp_path: Path) -> None:
    for name in ("ant", "bee", "cow"):
        add(tmp_path / "train" / name, *numbered(10))
    add(tmp_path / "test" / "cow", "1.jpg")
    (tmp_path / "test" / "ant").mkdir()
    source = open_source(str(tmp_path))
    assert source.splits["test"].labels.tolist() == [2]


def test_an_unknown_class_in_test_is_an_error(tmp_path: Path) -> None:
    add_splits(tmp_path, train=10, test=4)
    add(tmp_path / "test" / "eel", "1.jpg")
    assert "'eel'" in refused(tmp_path, "which .*train lacks")


def test_other_folders_beside_train_are_named(tmp_path: Path) -> None:
    add_splits(tmp_path, train=10, test=4, spare=3)
    assert any("spare is not train, val or test" in note for note in open_source(str(tmp_path)).notes)


# what is not a data set


def test_refused_folders(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such folder: .*nowhere")
    add(tmp_path, "file.jpg")
    refused(tmp_path / "file.jpg", "not a folder")
    refused(tmp_path, "has pictures but no class folders")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is empty")
    add(tmp_path / "one" / "cat", *numbered(5))
    refused(tmp_path / "one", "one class only, 'cat'")
    add(tmp_path / "few" / "cat", *numbered(5))
    add(tmp_path / "few" / "dog", *numbered(2))
    refused(tmp_path / "few", "class 'dog' has 2 training pictures: at least 3 are needed, one for each split")
    add(tmp_path / "hollow" / "cat", *numbered(5))
    add(tmp_path / "hollow" / "dog", "readme.txt")
    refused(tmp_path / "hollow", "dog has no pictures")
    add_splits(tmp_path / "untrained", val=3, test=3)
    refused(tmp_path / "untrained", "no train folder")
    add(tmp_path / "flat" / "train", *numbered(3))
    refused(tmp_path / "flat", "train has pictures but no class folders")


def test_names_that_some_systems_cannot_tell_apart(tmp_path: Path) -> None:
    add(tmp_path / "a:b", *numbered(5))
    add(tmp_path / "a|b", *numbered(5))
    refused(tmp_path, "'a:b' and 'a|b' would share".replace("|", r"\|"))


def test_a_name_that_some_systems_cannot_have_is_changed_and_noted(tmp_path: Path) -> None:
    add(tmp_path / "what?", *numbered(5))
    add(tmp_path / "fine", *numbered(5))
    source = open_source(str(tmp_path))
    assert source.classes == ("fine", "what-")
    assert any("'what?' is called 'what-'" in note for note in source.notes)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("T-shirt/top", "T-shirt-top"),
        ("Ankle boot", "Ankle boot"),
        ("Bär", "Bär"),
        ("猫", "猫"),
        ("a\nb", "a-b"),
        ("\udcff", "-"),
        ("dots. .", "dots"),
        (".hidden", "_.hidden"),
        ("..", "_"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("console", "console"),
    ],
)
def test_folder_names(text: str, name: str) -> None:
    assert folder_name(text) == name


# IDX files


def test_idx_classes_are_numbers_without_a_list(tmp_path: Path) -> None:
    add_idx(tmp_path, np.tile([0, 1, 2], 20))
    source = open_source(str(tmp_path))
    assert source.classes == ("0", "1", "2")
    assert sizes(source) == {"train": 54, "val": 6, "test": 60}


def test_idx_classes_from_a_list(tmp_path: Path) -> None:
    add_idx(tmp_path, np.tile([0, 1], 20))
    (tmp_path / "classes.txt").write_text("T-shirt/top\nhat \n\n")
    assert open_source(str(tmp_path)).classes == ("T-shirt-top", "hat")
    (tmp_path / "classes.txt").write_text("hat\n")
    refused(tmp_path, "one name per line")
    (tmp_path / "classes.txt").write_text("hat\nhat\n")
    refused(tmp_path, "would share a folder")


def test_an_idx_class_without_pictures_is_refused(tmp_path: Path) -> None:
    add_idx(tmp_path, np.tile([0, 2], 20))
    refused(tmp_path, "class '1' has 0 training pictures")


def test_no_more_than_the_limit_is_set_aside_for_validation(tmp_path: Path) -> None:
    add_idx(tmp_path, np.tile([0, 1], 30_000))
    assert sizes(open_source(str(tmp_path)))["val"] == MAX_VALIDATION


def test_known_labels_bring_their_names() -> None:
    labels = np.tile(np.arange(2, dtype=np.uint8), 5)
    table = {"18db40f653640507f5341c4766ff69ef46f40e9d32a9b565d78c97a87c280f75": ("left", "right")}
    assert known_classes(labels, table) == ("left", "right")
    assert known_classes(labels[::-1], table) is None


def test_a_folder_with_known_labels_has_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.tile(np.arange(2, dtype=np.uint8), 20)
    monkeypatch.setitem(CLASSES_BY_LABELS, hashlib.sha256(labels.tobytes()).hexdigest(), ("left", "right"))
    add_idx(tmp_path, labels)
    assert open_source(str(tmp_path)).classes == ("left", "right")


def test_fashion_mnist_is_known_by_both_splits() -> None:
    assert list(CLASSES_BY_LABELS.values()) == [FASHION_CLASSES, FASHION_CLASSES]
    assert all(folder_name(name) == name for name in FASHION_CLASSES)


# named sets


def test_digits_are_scaled_to_bytes() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits", seed=0)
    assert source.location is None
    assert sizes(source) == {"train": 1439, "val": 179, "test": 179}
    pixels = np.concatenate([np.asarray(records.pictures) for records in source.splits.values()])
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert pixels.shape == (1797, 8, 8, 1)
    assert sorted(row.tobytes() for row in pixels) == sorted(row.tobytes() for row in expected)


@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw", "mnist/MNIST/raw"])
def test_a_named_set_is_found_in_the_data_folder(tmp_path: Path, below: str) -> None:
    add_idx(tmp_path / below, np.tile([0, 1], 20))
    source = open_source("mnist", data_dir=tmp_path)
    assert (source.name, source.location) == ("mnist", str(tmp_path / below))
    assert str(tmp_path / below) in source.notes[0]
    assert sizes(open_source(str(source.location)))["train"] == sizes(source)["train"]


def test_cifar10_as_folders_is_found_in_the_data_folder(tmp_path: Path) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for split, count in (("train", 4), ("test", 1)):
        for name in names:
            add(tmp_path / "cifar10" / split / name, *numbered(count))
    source = open_source("cifar10", data_dir=tmp_path)
    assert source.classes == tuple(names)
    assert source.location == str(tmp_path / "cifar10")


def test_damaged_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    refused(folder, "not the original CIFAR-10")


def offline(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on the discard port
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(cache))


def test_offline_one_line_says_how_to_get_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"--data-dir.*dataset-fashion-mnist.*network") as caught:
        open_source("mnist")
    assert "\n" not in str(caught.value)
    assert not list((user_cache() / "datasets").iterdir())


def test_what_was_downloaded_before_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    folder = user_cache() / "datasets/MNIST/raw"
    assert folder.is_relative_to(tmp_path)
    add_idx(folder, np.tile([0, 1], 20))
    assert open_source("mnist").location == str(folder)


def test_another_set_under_the_same_file_names_is_not_taken(tmp_path: Path) -> None:
    add_idx(tmp_path / "fashion-mnist", np.tile([0, 1], 20))
    assert not holds("fashion-mnist", tmp_path / "fashion-mnist")
    assert holds("mnist", tmp_path / "fashion-mnist")


def test_a_missing_data_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir: no such folder"):
        open_source("mnist", data_dir=tmp_path / "gone")


def test_a_path_with_a_separator_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    add_idx(tmp_path / "digits", np.tile([0, 1], 20))
    assert open_source("digits").location is None
    assert open_source("./digits").location == str(tmp_path / "digits")
