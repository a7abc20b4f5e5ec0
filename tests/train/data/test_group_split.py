"""Splits that keep groups together: made ones, given ones, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_train import open_source
from cnn_train.data.group_split import set_aside_groups
from cnn_train.data.tree import Records
from cnn_train.errors import DataError

PATTERN = r"(p\d+)"


def fill(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def patients(count: int, each: int, *folders: str) -> list[str]:
    return [f"{name}/p{patient}_{at}.jpg" for name in folders for patient in range(count) for at in range(each)]


def groups_of(records: Records) -> set[str]:
    assert records.groups is not None
    return set(records.groups)


def refused(data: Path, **options: str) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(data), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    groups = np.sort(random.integers(0, 60, 600))
    groups = np.unique(groups, return_inverse=True)[1]
    labels = (groups % 3 + random.integers(0, 2, 600)) % 3
    return labels, groups, set_aside_groups(labels, groups, [60, 60], seed)


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_whole_groups_and_stratified(seed: int) -> None:
    labels, groups, parts = drawn(seed)
    assert sorted(np.concatenate(parts)) == list(range(600))
    held = [set(groups[part].tolist()) for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    assert all(abs(len(part) - 60) <= 6 for part in parts[1:])
    shares = [np.bincount(labels[part], minlength=3) / len(part) for part in parts]
    assert np.abs(np.array(shares) - np.bincount(labels) / 600).max() < 0.06


def test_every_part_has_every_class_where_there_are_groups_enough() -> None:
    labels = np.repeat([0, 1], [30, 300])
    groups = np.concatenate([np.arange(30) // 10, 3 + np.arange(300) // 5])
    assert [set(labels[part].tolist()) for part in set_aside_groups(labels, groups, [33, 33], 0)] == [{0, 1}] * 3


@pytest.mark.parametrize("counts", [[2], [10, 10], [1, 1]])
@pytest.mark.parametrize("only", [1, 40])
def test_the_rest_never_lacks_a_class_whose_groups_hold_others_too(counts: list[int], only: int) -> None:
    # group 0 has class 0, group 1 has classes 0 and 2, group 2 has classes 0 and 1; the other groups have one class
    held = [(0, 0, 1), (1, 0, 1), (1, 2, only), (2, 0, 1), (2, 1, only)]
    held += [(3 + number, 1 + number % 2, 10) for number in range(6)]
    groups, labels = (np.repeat([row[at] for row in held], [row[2] for row in held]) for at in (0, 1))
    for part in set_aside_groups(labels, groups, counts, 0):
        assert set(labels[part].tolist()) == {0, 1, 2}


def test_the_draw_depends_on_the_seed_and_never_changes() -> None:
    # a split that moved would put test pictures of old runs into new training: these numbers must stay
    labels, groups = np.tile([0, 1], 12), np.arange(24) // 2
    first = [part.tolist() for part in set_aside_groups(labels, groups, [2, 4], 0)[1:]]
    assert first == [[22, 23], [4, 5, 6, 7]]
    assert first != [part.tolist() for part in set_aside_groups(labels, groups, [2, 4], 1)[1:]]


def test_a_pattern_on_the_path_keeps_groups_together(tmp_path: Path) -> None:
    source = open_source(str(fill(tmp_path, patients(10, 4, "ill", "well"))), group=PATTERN, seed=1)
    held = {split: groups_of(records) for split, records in source.splits.items()}
    assert {split: len(found) for split, found in held.items()} == {"train": 8, "val": 1, "test": 1}
    assert len(set.union(*held.values())) == 10
    assert "no test split: 8 of 80 training pictures (1 of 10 groups) were set aside (seed 1)" in source.notes
    for split, records in source.splits.items():
        assert {re.findall(PATTERN, name)[-1] for name in records.pictures} == held[split]


def test_a_column_of_a_labels_file_does_the_same(tmp_path: Path) -> None:
    names = patients(10, 4, "ill", "well")
    fill(tmp_path, names)
    rows = [f"{name},{name.split('/')[0]},{re.findall(PATTERN, name)[0]}" for name in names]
    (tmp_path / "a.csv").write_text("\n".join(["file_name,label,group", *rows]))
    by_column, by_path = open_source(str(tmp_path / "a.csv")), open_source(str(tmp_path), group=PATTERN)
    for split, records in by_path.splits.items():
        assert list(by_column.splits[split].pictures) == list(records.pictures)
    assert "the labels file has a column group: leave out --group" in refused(tmp_path / "a.csv", group=PATTERN)
    (tmp_path / "a.csv").write_text("\n".join(["file_name,label,group", *rows[:-1], "well/p9_3.jpg,well,"]))
    assert "line 81 has no group: fill the column group in every row" in refused(tmp_path / "a.csv")


def test_given_splits_must_not_part_a_group(tmp_path: Path) -> None:
    fill(tmp_path, [f"{split}/{name}" for split in ("train", "test") for name in patients(4, 2, "ill", "well")])
    text = refused(tmp_path, group=PATTERN)
    assert (
        "4 groups are in two splits, which makes the figures of the second too good ('p0' is in train and test)" in text
    )
    fill(tmp_path / "other", [f"train/{name}" for name in patients(4, 2, "ill", "well")])
    fill(tmp_path / "other", [f"test/{name}" for name in ("ill/p8_0.jpg", "well/p9_0.jpg")])
    source = open_source(str(tmp_path / "other"), group=PATTERN)
    assert len(source.splits["val"].labels) == 4


def test_what_cannot_be_grouped_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", [*patients(6, 2, "ill", "well"), "well/x.jpg"])
    assert "gives 1 picture no group, such as well/x.jpg: every path must match" in refused(
        tmp_path / "a", group=PATTERN
    )
    fill(tmp_path / "b", [*patients(6, 2, "ill"), *patients(2, 9, "well")])
    assert "class 'well' has 2 groups: 3 are needed, one for each split" in refused(tmp_path / "b", group=PATTERN)
    with pytest.raises(DataError, match="is not a regular expression with parentheses: missing"):
        open_source(str(tmp_path / "a"), group="(")
    with pytest.raises(DataError, match="no effect on pictures without paths: --group"):
        open_source("digits", group=PATTERN)


def test_the_run_stores_the_pattern(photos: Path, command: Callable[..., tuple[int, str]]) -> None:
    short = ("photos", "--model", "nano", "--epochs", "1", "--out", "run")
    code, text = command(*short, "--group", r"(\d)\d?\.jpg")
    assert code == 0, text
    assert "training pictures (1 of 10 groups) were set aside" in text
    assert r"group = '(\d)\d?\.jpg'" in (photos.parent / "run" / "config.toml").read_text().replace('"', "'").replace(
        "\\\\", "\\"
    )
    code, text = command(*short[:-1], "other", "--group", "x")
    assert code == 2
    assert text.startswith("cnn-train: group must be a regular expression with parentheses, such as '(patient[0-9]+)'")
