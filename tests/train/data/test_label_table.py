"""Data sets whose classes are in a labels file: what is taken, what is left out and counted, and what is refused."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer.errors import EdgeCNNError
from cnn_train import Source, open_source, prepare
from cnn_train.errors import DataError

Command = Callable[..., tuple[int, str]]


def fill(root: Path, *folders: str, count: int = 6) -> Path:
    """Empty files will do: finding pictures does not open them."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.jpg").touch()
    return root


def table(root: Path, rows: list[str], name: str = "labels.csv") -> Path:
    (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root / name


def rows_of(*folders: str, count: int = 6) -> list[str]:
    return ["file_name,label", *(f"{name}/{number}.jpg,{name}" for name in folders for number in range(count))]


def opened(path: Path, **options: object) -> Source:
    return open_source(str(path), **options)  # type: ignore[arg-type]


def below(source: Source) -> dict[str, list[tuple[str, int]]]:
    """Path below the folder and label of each picture."""
    start = len(os.path.join(source.location or "", ""))
    return {
        split: [(name[start:], int(label)) for name, label in zip(records.pictures, records.labels, strict=True)]
        for split, records in source.splits.items()
    }


def test_a_labels_file_gives_the_same_data_set_as_class_folders(photos: Path, tmp_path: Path) -> None:
    (photos / "red" / "more").mkdir()
    (photos / "red" / "3.jpg").rename(photos / "red" / "more" / "3.jpg")
    folder = prepare(opened(photos, seed=3), cache=tmp_path / "cache")
    rows = [
        f"{path.relative_to(photos).as_posix()},{path.relative_to(photos).parts[0]}" for path in photos.rglob("*.jpg")
    ]
    path = table(photos, ["file_name,label", *reversed(rows)])
    found = prepare(opened(path, seed=3), cache=tmp_path / "cache")
    assert found.fingerprints == folder.fingerprints
    assert found.source.classes == folder.source.classes
    assert (found.source.location, found.source.path, found.source.name) == (str(photos), str(path), "photos")
    assert found.source.notes == folder.source.notes


def test_the_order_of_rows_does_not_matter_and_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    names = [str(number) for number in range(11)]
    header, *rows = rows_of(*names)
    first = opened(table(fill(tmp_path, *names), [header, *rows], "a.csv"))
    second = opened(table(tmp_path, [header, *reversed(rows)], "b.csv"))
    assert first.classes == second.classes == tuple(names)
    assert below(first) == below(second)
    assert opened(tmp_path / "a.csv", classes=tuple(reversed(names))).classes == tuple(reversed(names))


def test_splits_in_a_column_have_the_names_of_split_folders(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog")
    names = ["train", "Training", "VALID", "dev", "test", "testing"]
    lines = [
        json.dumps({"file_name": f"{name}/{at}.jpg", "label": name, "split": split})
        for name in ("cat", "dog")
        for at, split in enumerate(names)
    ]
    source = opened(table(tmp_path, lines, "metadata.jsonl"))
    assert {split: [Path(name).name for name, _ in found] for split, found in below(source).items()} == {
        "train": ["0.jpg", "1.jpg"] * 2,
        "val": ["2.jpg", "3.jpg"] * 2,
        "test": ["4.jpg", "5.jpg"] * 2,
    }
    assert source.notes == ()


def test_what_is_left_out_is_counted_with_an_example(tmp_path: Path) -> None:
    fill(tmp_path, "cat", "dog", "elsewhere")
    (tmp_path / "dog" / "notes.txt").touch()
    header, *rows = rows_of("cat", "dog")
    path = table(tmp_path, [header, *rows[:-2], "cat/77.jpg,cat", "dog/4.jpg,", rows[0], rows[1], "dog/notes.txt,dog"])
    source = opened(path)
    assert [note for note in source.notes if "set aside" not in note] == [
        f"left out: 2 rows of {path} without a picture file (cat/77.jpg, line 12)",
        f"left out: 1 row without a label (dog/4.jpg, line 13) in {path}",
        f"left out: 1 picture without a row (dog/5.jpg) in {path}",
        f"counted once: 2 repeated rows (cat/0.jpg, line 14) in {path}",
    ]
    assert sum(map(len, below(source).values())) == 10
    with pytest.raises(DataError, match=r"2 rows of .* without a picture file .*, and --strict is set"):
        prepare(source, strict=True)


def test_names_without_extension_and_in_another_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))
    fill(tmp_path, f"all/{decomposed}", "all/dog")
    rows = [f"all/{name}/{number},{name}" for name in (composed, "dog") for number in range(6)]
    source = opened(table(tmp_path, ["id,breed", *rows]), columns=("id", "breed"))
    assert source.classes == (composed, "dog")
    assert sum(map(len, below(source).values())) == 12
    assert f"completed: 12 names without an extension (all/{composed}/0 to all/{decomposed}/0.jpg)" in source.notes[0]


REFUSED: list[tuple[list[str], str]] = [
    (["file_name,label"], "labels.csv has no rows"),
    (rows_of("x"), r"no row of .* names a picture file \(x/0.jpg, line 2\): paths must start in the folder"),
    (["file_name,label", "cat/1.jpg,", "cat/2.jpg,"], r"no row of .* has a label \(cat/1.jpg, line 2\)"),
    (rows_of("cat"), "has one class only, 'cat'"),
    (
        [*rows_of("cat", "dog"), "cat/1.jpg,dog", "dog/1.jpg,cat"],
        r"gives 2 pictures a second label \(cat/1.jpg is 'cat' in line 3 and 'dog' in line 14\): leave one row",
    ),
    ([*rows_of("cat", "dog"), "cat/two,cat"], "line 14: two is two.jpg or two.png: write its extension"),
    (["file_name,label,split", "cat/1.jpg,cat,holdout"], "line 2 has the split 'holdout': it must be one of train, tr"),
    (["file_name,label,split", "cat/1.jpg,cat,"], "line 2 has the split ''"),
    (
        ["file_name,label,split", "cat/1.jpg,cat,train", "cat/1.jpg,cat,test"],
        "cat/1.jpg is in two splits, in line 2 and line 3: remove one of the rows",
    ),
    (["file_name,label,split", "cat/1.jpg,cat,test", "dog/1.jpg,dog,test"], "has the split test but no train"),
    (
        ["file_name,label,split", "cat/1.jpg,cat,train", "dog/1.jpg,dog,test"],
        "the split test has the class 'dog', which train lacks",
    ),
    ([*rows_of("cat"), "dog/1.jpg,Cat", "dog/2.jpg,Cat", "dog/3.jpg,Cat"], "would share a folder on some systems"),
]


@pytest.mark.parametrize(("rows", "reason"), REFUSED, ids=[reason[:30] for _, reason in REFUSED])
def test_contradictions_are_refused(tmp_path: Path, rows: list[str], reason: str) -> None:
    fill(tmp_path, "cat", "dog")
    for name in ("two.jpg", "two.png"):
        (tmp_path / "cat" / name).touch()
    with pytest.raises(EdgeCNNError, match=reason) as caught:
        opened(table(tmp_path, rows))
    assert "\n" not in str(caught.value)


def test_the_command_takes_a_labels_file_beside_the_run_folder(
    command: Command, refused: Callable[..., str], photos: Path
) -> None:
    """The rows name the pictures, so that a run folder beside them is no class."""
    table(
        photos, ["image;breed", *(f"{path.parent.name}/{path.name};{path.parent.name}" for path in photos.glob("*/*"))]
    )
    short = ("--model", "nano", "--epochs", "1", "--out", "photos/run")
    code, text = command("photos/labels.csv", "--columns", "image", "breed", *short)
    assert code == 0, text
    assert "3 classes, 20 x 16 colour: train 30, val 3, test 3" in text
    assert 'columns = [\n    "image",\n    "breed",\n]' in (photos / "run" / "config.toml").read_text()
    assert "has no column 'file_name' and no 'label'; it has 'image', 'breed'" in refused("photos/labels.csv")
    assert "no effect without a labels file" in refused("photos", "--columns", "image", "breed")
    assert "columns must be two different names" in refused("photos/labels.csv", "--columns", "image", "image")


def test_a_folder_with_a_labels_file_points_to_it(refused: Callable[..., str], tmp_path: Path) -> None:
    fill(tmp_path, "data/images", "flat")
    for folder in ("data", "flat"):
        table(tmp_path / folder, ["file_name,label"], "metadata.csv")
        assert re.search(f"or give the labels file as the data set: .*{folder}/metadata.csv$", refused(folder))
