"""--check finds everything that is planted in a folder, and nothing else."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from cnn_train import Check, ConfigError, DataError, Run, RunError, check
from cnn_train.checking import doctor
from cnn_train.checking.report import CHECK_FILES
from cnn_train.cli import command as click_command
from PIL import Image

Command = Callable[..., tuple[int, str]]


def drawn(seed: int, width: int = 64, height: int = 48) -> Image.Image:
    """A picture of soft colours with edges, unlike those of other seeds."""
    random = np.random.default_rng(seed)
    soft = Image.fromarray(random.integers(0, 200, (6, 8, 3)).astype(np.uint8)).resize((width, height), 3)
    pixels = np.asarray(soft).copy()
    for _ in range(6):
        top, left = random.integers(0, height - 12), random.integers(0, width - 12)
        pixels[top : top + 10, left : left + 10] = random.integers(0, 200, 3)
    return Image.fromarray(pixels)


def fill(folder: Path, seed: int, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        drawn(seed + number).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each kind of finding, most of them once."""
    top = tmp_path_factory.mktemp("planted") / "animals"
    cat, dog = top / "train" / "cat", top / "train" / "dog"
    fill(cat, 100, 20)
    fill(dog, 200, 20)
    fill(top / "train" / "fish", 300, 2)
    fill(top / "train" / "tmp", 400, 6)
    fill(top / "test" / "cat", 500, 6)
    fill(top / "test" / "dog", 600, 6)
    fill(top / "test" / "tmp", 700, 1)
    (cat / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (cat / "notes.txt").write_text("no picture")
    (cat / "elsewhere").symlink_to(dog, target_is_directory=True)
    for name in ("__MACOSX", "train/@eaDir", "test/.ipynb_checkpoints"):
        (top / name).mkdir()
        drawn(1).save(top / name / "0.png")
    shutil.copy(cat / "0.png", cat / "copy.png")
    shutil.copy(cat / "1.png", top / "test" / "cat" / "leak.png")
    shutil.copy(cat / "2.png", dog / "other.png")
    drawn(103).save(cat / "again.jpg", quality=60)
    drawn(104).resize((40, 30), 3).save(cat / "smaller.png")
    drawn(105).point(lambda value: value * 1.25).save(cat / "brighter.png")
    drawn(106).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(cat / "mirrored.png")
    drawn(207).save(top / "test" / "dog" / "nearly.jpg", quality=80)
    Image.new("RGB", (64, 48), (90, 120, 60)).save(dog / "blank.png")
    drawn(800).convert("CMYK").save(dog / "print.jpg")
    drawn(801).convert("RGBA").save(dog / "glass.png")
    Image.fromarray(np.asarray(drawn(802).convert("L")).astype(np.uint16) * 257).save(dog / "deep.png")
    drawn(803).save(dog / "moving.gif", save_all=True, append_images=[drawn(804)])
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(805, 48, 64).save(dog / "lying.jpg", exif=exif)
    drawn(806).resize((16, 12), 3).save(dog / "tiny.png")
    drawn(807, 400, 60).save(dog / "banner.png")
    return top


@pytest.fixture(scope="module")
def found(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Check:
    return check(planted, out=tmp_path_factory.mktemp("found") / "check", size=(48, 64))


def short(path: str, top: Path) -> str:
    return path.removeprefix(f"{top}/")


def test_everything_planted_is_found_and_nothing_else(found: Check, planted: Path) -> None:
    pairs = {
        (each.kind, short(each.path, planted), short(each.partner, planted))
        for each in found.findings
        if each.kind != "left-out"
    }
    assert pairs == {
        ("unreadable", "train/cat/broken.jpg", ""),
        ("class-name", "tmp", ""),
        ("small-class", "fish", ""),
        ("missing-class", "fish", ""),
        ("imbalance", "fish", ""),
        ("copy", "train/cat/copy.png", "train/cat/0.png"),
        ("copy-across-splits", "test/cat/leak.png", "train/cat/1.png"),
        ("copy", "train/dog/other.png", "train/cat/2.png"),
        ("two-labels", "train/dog/other.png", "train/cat/2.png"),
        ("near-duplicate", "train/cat/again.jpg", "train/cat/3.png"),
        ("near-duplicate", "train/cat/smaller.png", "train/cat/4.png"),
        ("near-duplicate", "train/cat/brighter.png", "train/cat/5.png"),
        ("near-duplicate", "train/cat/mirrored.png", "train/cat/6.png"),
        ("near-duplicate-across-splits", "test/dog/nearly.jpg", "train/dog/7.png"),
        ("one-colour", "train/dog/blank.png", ""),
        ("mode", "train/dog/print.jpg", ""),
        ("mode", "train/dog/glass.png", ""),
        ("mode", "train/dog/deep.png", ""),
        ("mode", "train/dog/moving.gif", ""),
        ("orientation", "train/dog/lying.jpg", ""),
        ("size", "train/dog/tiny.png", ""),
        ("shape", "train/dog/banner.png", ""),
    }


def test_what_is_left_out_is_listed_with_the_reason(found: Check, planted: Path) -> None:
    left = {(short(each.path, planted), each.detail) for each in found.findings if each.kind == "left-out"}
    system = "a hidden folder or one of the system is never a class"
    train = f"1 file of other kinds (.txt 1) and 1 link to a folder in the class folders of {planted}/train"
    assert left == {
        (str(planted), train),
        ("__MACOSX", system),
        ("train/@eaDir", system),
        ("test/.ipynb_checkpoints", system),
    }


def test_files_have_one_row_per_finding_counts_and_the_worst_pictures(found: Check) -> None:
    with open(found.path / "findings.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "finding", "partner", "detail", "advice"]
    assert [row["finding"] for row in rows] == [each.kind for each in found.findings]
    assert all(row["path"] and row["detail"] and row["advice"] for row in rows)
    report = json.loads((found.path / "check.json").read_text(encoding="utf-8"))
    assert report == found.report
    assert report["pictures"] == {"train": 63, "test": 15}
    assert {kind: entry["count"] for kind, entry in report["kinds"].items()}["near-duplicate"] == 4
    assert report["problems"] == sum(entry["count"] for entry in report["kinds"].values() if entry["problem"])
    with Image.open(found.path / "sheet.png") as sheet:
        colours = len(sheet.getcolors(1 << 24) or [])
        assert sheet.height > 10 * 128  # a row for each kind with pictures
    assert colours > 1000


def test_the_table_has_a_line_of_advice_for_each_kind(found: Check) -> None:
    head, *lines = found.text().splitlines()
    assert head.split() == ["finding", "number", "level", "what", "to", "do"]
    assert [line.split()[0] for line in lines] == list(found.report["kinds"])
    assert any(line.split()[:3] == ["copy", "2", "problem"] and "keep one" in line for line in lines)


def test_strict_fails_for_problems_but_not_for_notes(command: Command, tmp_path: Path) -> None:
    fill(tmp_path / "set" / "a", 1, 6)
    fill(tmp_path / "set" / "b", 11, 6)
    (tmp_path / "set" / "a" / "notes.txt").write_text("a note is no problem")
    code, text = command("--check", "set", "--size", "48x64", "--out", "first", "--strict")
    assert code == 0, text
    assert "checked: " in text
    shutil.copy(tmp_path / "set" / "a" / "0.png", tmp_path / "set" / "a" / "z.png")
    code, text = command("--check", "set", "--size", "48x64", "--out", "second", "--strict", "--format", "csv")
    assert code == 1
    assert text.splitlines()[-1] == "cnn-train: 1 problem, and --strict is set: second"
    assert (tmp_path / "second" / "findings.csv").is_file()
    code, text = command("--check", "set", "--size", "48x64", "--out", "second")
    assert code == 2
    assert text.rstrip().endswith("second is not empty: pass --overwrite to replace the check in it")
    arguments = ["--check", "set", "--size", "48x64", "--out", "second", "--overwrite", "--format", "csv"]
    printed = CliRunner().invoke(click_command, arguments)
    assert printed.exit_code == 0
    assert printed.stdout == (tmp_path / "second" / "findings.csv").read_text(encoding="utf-8")
    assert printed.stdout.count("\n") == 3


def test_a_clean_folder_is_quiet(tmp_path: Path) -> None:
    fill(tmp_path / "set" / "a", 1, 6)
    fill(tmp_path / "set" / "b", 11, 6)
    found = check(tmp_path / "set", out=tmp_path / "out", size=(48, 64))
    assert found.findings == []
    assert found.text() == "nothing was found"
    assert sorted(path.name for path in found.path.iterdir()) == ["check.json", "findings.csv"]


def test_a_set_without_a_readable_picture_is_reported(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(b"garbage")
    found = check(tmp_path / "set", out=tmp_path / "out")
    assert [each.kind for each in found.findings if each.path.endswith(".png")] == ["unreadable", "unreadable"]


def test_two_checks_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "set" / "a", 1, 3)
    fill(tmp_path / "set" / "b", 11, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "20260101-000000")
    folders = [check("set").path.name for _ in range(2)]
    assert folders == ["20260101-000000-set-check", "20260101-000000-set-check-2"]


def test_a_split_beside_the_classes_is_named(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog", "test", "New Folder", "train")):
        fill(tmp_path / "set" / name, 10 * number, 6)
    found = check(tmp_path / "set", out=tmp_path / "out", size=(48, 64))
    assert {(each.kind, each.path) for each in found.findings} == {
        ("class-name", "test"),
        ("class-name", "train"),
        ("class-name", "New Folder"),
    }


def test_every_form_of_data_is_checked(planted: Path, tmp_path: Path, found: Check) -> None:
    """An archive has the same findings; a labels file has those of its pictures; digits have none of a file."""
    with tarfile.open(tmp_path / "animals.tar", "w") as archive:
        archive.add(planted, "animals")
    packed = check(tmp_path / "animals.tar", out=tmp_path / "packed", size=(48, 64))
    assert [(each.kind, Path(each.path).name) for each in packed.findings if each.kind != "left-out"] == [
        (each.kind, Path(each.path).name) for each in found.findings if each.kind != "left-out"
    ]
    # its paths are relative to the data set
    assert (packed.path / "sheet.png").read_bytes() == (found.path / "sheet.png").read_bytes()
    fill(tmp_path / "rows", 1, 12)
    shutil.copy(tmp_path / "rows" / "0.png", tmp_path / "rows" / "z.png")
    lines = [f"{path.name};{'ab'[number % 2]}" for number, path in enumerate(sorted((tmp_path / "rows").iterdir()))]
    (tmp_path / "rows" / "labels.csv").write_text("image;kind\n" + "\n".join(lines) + "\ngone.png;a\n")
    listed = check(tmp_path / "rows" / "labels.csv", out=tmp_path / "listed", columns=("image", "kind"), size=(48, 64))
    assert [each.kind for each in listed.findings] == ["left-out", "copy"]
    digits = check("digits", out=tmp_path / "digits")
    assert {each.kind for each in digits.findings} <= {"near-duplicate"}
    assert len(digits.findings) < 20
    assert digits.report["near_duplicates"]["look_alikes"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--epochs", "3"), "no effect with --check: --epochs"),
        (("--folds", "0"), "no effect with --check: --folds"),
        (("--resume",), "no effect with --check: --resume"),
        (("--cache", "x"), "no effect with --check: --cache"),
        (("--report", "x"), "no effect with --check: --report"),
        (("--run", "nowhere"), "no such run folder: nowhere"),
        (("b",), "one data set is checked, not 2"),
        (("--out", "digits/x"), "no such folder"),
    ],
)
def test_options_without_effect_are_refused(
    refused: Callable[..., str], arguments: tuple[str, ...], reason: str
) -> None:
    data = "nowhere" if arguments[0] == "--out" else "digits"
    assert reason in refused("--check", data, *arguments)


def test_what_is_refused_goes_not_into_the_data_and_deletes_nothing(
    planted: Path, tmp_path: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DataError, match="name another folder with --out"):
        check(planted, out=planted / "train" / "cat" / "check")
    with pytest.raises(ConfigError, match="no effect with --run: --size"):
        check(planted, run=tmp_path, size=32)
    for name in CHECK_FILES:
        (tmp_path / name).write_text("of an earlier check")
    with pytest.raises(ConfigError, match="cuda"):
        check(run=finished.path, out=tmp_path, overwrite=True, device="cuda")
    monkeypatch.setattr(doctor, "surveyed", Mock(side_effect=OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        check("digits", out=tmp_path, overwrite=True)
    assert {(tmp_path / name).read_text() for name in CHECK_FILES} == {"of an earlier check"}
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot create the folder"):
        check("digits", out=tmp_path / "file" / "check")
