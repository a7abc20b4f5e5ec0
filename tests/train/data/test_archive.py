"""Training on an archive: the data set of the unpacked folder, wherever people packed it from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer.errors import EdgeCNNError
from cnn_train import open_source, prepare


@pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
@pytest.mark.parametrize("top", [True, False], ids=["with the folder", "its content"])
def test_an_archive_is_the_same_data_set_as_its_folder(photos: Path, tmp_path: Path, form: str, top: bool) -> None:
    (photos / "notes.txt").write_text("notes")
    (photos / "red" / "more").mkdir()
    (photos / "red" / "3.jpg").rename(photos / "red" / "more" / "3.jpg")
    base = str(tmp_path / "packed")
    archive = shutil.make_archive(base, form, tmp_path if top else photos, "photos" if top else ".")
    folder = prepare(open_source(str(photos), seed=2), cache=tmp_path / "cache")
    found = prepare(open_source(archive, seed=2), cache=tmp_path / "cache")
    assert found.fingerprints == folder.fingerprints
    assert (found.source.classes, found.height, found.width) == (folder.source.classes, folder.height, folder.width)
    assert found.source.location == (f"{archive}/photos" if top else archive)
    assert (f"the classes are in {archive}/photos" in found.source.notes) is top
    assert found.train.names[0].startswith(f"{found.source.location}/blue/")
    Path(archive).unlink()
    other = shutil.make_archive(base, form, tmp_path if top else photos, "photos/red" if top else "red")
    with pytest.raises(EdgeCNNError, match=r"has pictures but no class folders|has one class only"):
        open_source(other)


def test_splits_in_an_archive_and_a_damaged_one(
    photos: Path, tmp_path: Path, command: Callable[..., tuple[int, str]], refused: Callable[..., str]
) -> None:
    for split in ("train", "test"):
        for name in ("blue", "red"):
            (tmp_path / "data" / split).mkdir(parents=True, exist_ok=True)
            shutil.copytree(photos / name, tmp_path / "data" / split / name)
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "data"))
    code, text = command("data.zip", "--model", "nano", "--epochs", "1", "--out", "run", "--group", r"/(\d+)\.jpg")
    assert code == 2
    assert "12 groups are in two splits" in text
    code, text = command("data.zip", "--model", "nano", "--epochs", "1", "--out", "run")
    assert code == 0, text
    assert "data: data.zip, 2 classes, 20 x 16 colour: train 22, val 2, test 24" in text
    archive.write_bytes(archive.read_bytes()[:-30])
    assert "data.zip cannot be read as an archive: it is no zip file, or its end is missing" in refused("data.zip")
    assert "no effect without a labels file" in refused("data.zip", "--columns", "a", "b")
