"""What is wrong between the splits is reported with counts and one example; so is a crop that removes too much."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_train import Dataset, open_source, prepare
from cnn_train.data.split_checks import MOST_CROPPED, comparison_warnings, crop_warning
from cnn_train.preparation import open_dataset
from PIL import Image

Size = tuple[int, int]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three splits of two classes with three pictures each, all different."""
    root, random = tmp_path / "pets", np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = random.integers(0, 256, (6, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.bmp")
    return root


def prepared(root: Path, **options: object) -> Dataset:
    return prepare(open_source(str(root)), cache=root.parent / "cache", **options)  # type: ignore[arg-type]


def copy(root: Path, source: str, target: str) -> None:
    shutil.copy(root / source, root / target)


def nothing(root: Path) -> None:
    """Leave the data set as it is."""


def leak(root: Path) -> None:
    for split in ("test", "val"):
        shutil.rmtree(root / split)
    shutil.copytree(root / "train", root / "test")
    shutil.copytree(root / "train" / "cat", root / "val" / "cat")
    copy(root, "train/dog/1.bmp", "val/cat/3.bmp")


def save_again(root: Path) -> None:
    """The same pixels in another format: other bytes."""
    Image.open(root / "train/cat/0.bmp").save(root / "test/cat/again.png")


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        (nothing, []),
        (lambda root: copy(root, "train/cat/0.bmp", "train/cat/9.bmp"), []),  # a copy in the same class of one split
        (lambda root: copy(root, "train/cat/1.bmp", "test/cat/9.bmp"), ["1 of 7 test pictures is in the train split"]),
        (save_again, ["1 of 7 test pictures is in the train split too"]),
        (lambda root: copy(root, "val/cat/1.bmp", "test/cat/9.bmp"), ["1 of 7 test pictures is in the val split too"]),
        (lambda root: copy(root, "train/cat/1.bmp", "train/dog/9.bmp"), ["1 picture has more than one label: "]),
        (lambda root: shutil.rmtree(root / "test/dog"), ["the test split has no picture of the class dog"]),
        (
            leak,
            [
                "the val split has no picture of the class dog",
                "4 of 4 val pictures are in the train split too",
                "6 of 6 test pictures are in the train split too",
                "4 of 6 test pictures are in the val split too",
                "1 picture has more than one label: ",
            ],
        ),
    ],
)
def test_splits_are_compared(tree: Path, change: Callable[[Path], None], starts: list[str]) -> None:
    change(tree)
    for _ in range(2):  # decoded, and then from the cache
        found = comparison_warnings(prepared(tree))
        assert len(found) == len(starts)
        for warning, start in zip(found, starts, strict=True):
            assert warning.startswith(start)
            assert "\n" not in warning


def test_the_example_names_both_pictures(tree: Path) -> None:
    copy(tree, "train/dog/2.bmp", "test/cat/9.bmp")
    shared, double = comparison_warnings(prepared(tree))
    assert f"({tree}/test/cat/9.bmp equals {tree}/train/dog/2.bmp)" in shared
    assert f"{tree}/test/cat/9.bmp (cat) and {tree}/train/dog/2.bmp (dog) are equal" in double


def test_the_digits_have_no_copies(digits: Dataset) -> None:
    assert comparison_warnings(digits) == []
    assert crop_warning(digits) is None


def test_the_classes_are_named_with_their_counts(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(tree / "val" / "dog")
    for number in range(11):
        (tree / "train" / f"extra {number:02}").mkdir()
        copy(tree, "train/cat/0.bmp", f"train/extra {number:02}/0.bmp")
    caplog.set_level(logging.INFO)
    open_dataset({"data": str(tree), "cache": tree.parent / "cache"}, tree.parent / "run", None)
    shown = [line for line in caplog.messages if line.startswith(("  train: ", "  val: ", "  test: "))]
    ones, zeros = (", ".join(f"extra {number:02} {count}" for number in range(10)) for count in (1, 0))
    assert shown == [
        f"  train: cat 3, dog 3, {ones} and 1 more classes with 1 to 3 pictures",
        f"  val: cat 3, dog 0, {zeros} and 1 more classes with 0 to 3 pictures",
        f"  test: cat 3, dog 3, {zeros} and 1 more classes with 0 to 3 pictures",
    ]


@pytest.mark.parametrize(
    ("shapes", "options", "share"),
    [
        ([(640, 128)], {}, 0.8),
        ([(128, 640)], {}, 0.8),
        ([(640, 128)], {"size": (16, 80)}, 0),
        ([(640, 128)], {"resize": "pad"}, 0),
        ([(640, 128)], {"resize": "squash"}, 0),
        ([(200, 150)], {}, 0.25),
        ([(640, 128), (200, 200), (300, 300)], {}, 0),
        ([(640, 128), (640, 160), (300, 300)], {}, 0.75),
    ],
)
def test_the_crop_of_the_median_picture(
    tmp_path: Path, shapes: list[Size], options: dict[str, object], share: float
) -> None:
    root = tmp_path / "wide"
    for number in range(3 * len(shapes)):
        for name in ("cat", "dog"):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", shapes[number % len(shapes)], (number, 0, 0)).save(root / name / f"{number}.bmp")
    for _ in range(2):  # from the headers, and then from the list of headers in the cache
        dataset = prepared(root, **options)
        assert dataset.cropped == pytest.approx(share)
        warning = crop_warning(dataset) or ""
        assert ("--resize pad" in warning) is (share > MOST_CROPPED)
        assert (f"cuts off {share:.0%} of the median picture" in warning) is (share > MOST_CROPPED)
    for path in (tmp_path / "cache").glob("headers-*.json"):  # as earlier versions wrote it, without numbers
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "kinds": [kind[:3] for kind in document["kinds"]]}))
    assert prepared(root, **options).cropped == pytest.approx(share)
