"""evaluate: what is refused, labels in both Unicode forms, and what is left out. The figures are checked in
tests/infer/command/test_report.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import Classifier, InputError, evaluate, open_model
from cnn_infer.paths.skipped import SYSTEM_NAMES, skipped_text


@pytest.mark.parametrize("option", ["threads", "batch_size"])
def test_numbers_below_one_are_refused_by_name(rgb: Classifier, tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError) as found:
        evaluate(rgb, [tmp_path], **{option: 0})  # type: ignore[arg-type]
    assert str(found.value) == f"{option} must be a whole number of at least 1, not 0"


@pytest.mark.parametrize("of_the_model", ["NFC", "NFD"])
@pytest.mark.parametrize("on_the_disk", ["NFC", "NFD"])
def test_folders_match_classes_in_both_unicode_forms(
    rgb: Classifier,
    with_metadata: Callable[[str, str, str], bytes],
    picture: Callable[..., Path],
    tmp_path: Path,
    of_the_model: str,
    on_the_disk: str,
) -> None:
    classes = [unicodedata.normalize(of_the_model, name) for name in ("r\xf8d", "gr\xfcn", "bl\xe5", "gr\xe5")]  # type: ignore[arg-type]
    spec = json.dumps({**json.loads(rgb.spec.to_json()), "classes": classes})
    classifier = Classifier(open_model(with_metadata("rgb.onnx", "cnn.spec", spec)))
    folder = unicodedata.normalize(on_the_disk, "gr\xfcn")  # type: ignore[arg-type]
    picture(tmp_path / folder / "1.png", (10, 220, 10))
    picture(tmp_path / folder / "deep" / "2.png", (10, 220, 10))
    for paths in ([tmp_path], [tmp_path / folder], [tmp_path / folder / "1.png"]):
        rows = []
        found = evaluate(classifier, paths, on_row=rows.append)
        assert (found.accuracy, found.unknown_folders) == (1, {})
        assert all(row.path.startswith(str(tmp_path / folder)) for row in rows)  # as on the disk
        assert all(row.prediction.label == classes[1] for row in rows)


@pytest.mark.parametrize("name", sorted(SYSTEM_NAMES | {"__MACOSX", "@eaDir", ".ipynb_checkpoints"}))
def test_system_folders_are_not_searched(
    rgb: Classifier, picture: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    for place in ("red", name, f"red/{name}", f"red/{name}/nested"):
        picture(tmp_path / place / "1.png", (220, 10, 10))
    for paths in ([tmp_path], [tmp_path / "*"], [tmp_path / "**" / "*.png"], [tmp_path / "red" / "*"]):
        found = evaluate(rgb, paths)
        assert (found.images, found.labelled, found.skipped) == (1, 1, {})
    assert evaluate(rgb, [tmp_path / name]).images == 1  # given by name, it is searched


def test_what_is_left_out_is_counted_by_kind(rgb: Classifier, picture: Callable[..., Path], tmp_path: Path) -> None:
    picture(tmp_path / "in" / "red" / "1.png", (220, 10, 10))
    picture(tmp_path / "out" / "2.png", (220, 10, 10))
    for name in ("a.txt", "red/b.TXT", "red/README", ".hidden", "Thumbs.db", "red/.DS_Store"):
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    assert evaluate(rgb, [tmp_path / "in"]).skipped == {".txt": 2, "no extension": 1, "link to a folder": 1}
    followed = evaluate(rgb, [tmp_path / "in"], follow_symlinks=True)
    assert (followed.images, followed.skipped) == (2, {".txt": 2, "no extension": 1})
    (tmp_path / "in" / "red" / "1.png").unlink()
    with pytest.raises(InputError, match=r"left out: 3 files of other kinds \(.* and 1 link to a folder$"):
        evaluate(rgb, [tmp_path / "in"])


def test_the_kinds_of_files_are_bounded(rgb: Classifier, picture: Callable[..., Path], tmp_path: Path) -> None:
    picture(tmp_path / "1.png", (220, 10, 10))
    for number in range(250):
        (tmp_path / f"scan.{number:04}").touch()
    skipped = evaluate(rgb, [tmp_path]).skipped
    assert (len(skipped), skipped["other"], sum(skipped.values())) == (101, 150, 250)
    text = skipped_text({f".{number}": 1 for number in range(6)})
    assert text == "6 files of other kinds (.0 1, .1 1, .2 1, .3 1, .4 1, 1 more kind)"


@pytest.mark.parametrize(
    ("folders", "options", "lines"),
    [
        (["red"], (), ["left out: 1 file of other kinds (.txt 1)"]),
        (
            ["lake"],
            (),
            [
                "no accuracy: none of the folders has the name of a class: lake (1)",
                "left out: 1 file of other kinds (.txt 1)",
            ],
        ),
        (["lake"], ("--labels", "none"), ["left out: 1 file of other kinds (.txt 1)"]),
        (
            ["red", *(f"lake {number:02}" for number in range(12))],
            (),
            [
                "folders without the name of a class, not counted: "
                + ", ".join(f"lake {number:02} (1)" for number in range(10))
                + ", and 2 more",
                "classes without a picture: green, blue, grey",
                "left out: 1 file of other kinds (.txt 1)",
            ],
        ),
    ],
)
def test_the_summary_names_what_is_left_out(
    cli: Callable[..., subprocess.CompletedProcess[bytes]],
    models: Path,
    picture: Callable[..., Path],
    tmp_path: Path,
    folders: list[str],
    options: tuple[str, ...],
    lines: list[str],
) -> None:
    for folder in folders:
        picture(tmp_path / "in" / folder / "1.png", (220, 10, 10))
    (tmp_path / "in" / "a.txt").touch()
    done = cli("in", "--model", models / "rgb.onnx", *options)
    assert done.stderr.decode().splitlines()[-len(lines) :] == lines


def test_pictures_given_as_files_need_no_folder_with_the_name_of_a_class(
    cli: Callable[..., subprocess.CompletedProcess[bytes]],
    models: Path,
    tmp_path: Path,
    picture: Callable[..., Path],
) -> None:
    for number in range(2):
        picture(tmp_path / "lake" / f"{number}.png", (220, 10, 10))
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "lake")
    model = ("--model", models / "rgb.onnx")
    single = "photos.zip/lake/0.png"
    for paths in (["lake/0.png"], ["lake/0.png", "lake/1.png"], [single, "lake/0.png"], [(tmp_path / single).as_uri()]):
        assert b"no accuracy" not in cli(*paths, *model, "--html", "page.html").stderr
        assert "no accuracy:" not in (tmp_path / "page.html").read_text()
    for paths in (["lake"], ["lake/*.png"], ["lake/0.png", "lake"], ["photos.zip"], ["photos.zip/lake"]):
        assert b"no accuracy: none of the folders" in cli(*paths, *model, "--html", "page.html").stderr
        assert "no accuracy: none of the folders" in (tmp_path / "page.html").read_text()
