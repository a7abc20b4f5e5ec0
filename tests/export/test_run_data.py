"""The data set of a run is found again: a fold of a cross-validation, a labels file, an archive of the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cnn_export import ExportError
from cnn_export.run_data import open_run_source, read_test_split
from cnn_train import open_source, train


def test_the_test_pictures_of_a_fold_are_found_again(tmp_path: Path) -> None:
    run = train("digits", fold="2/40", model="nano", epochs=1, out=tmp_path / "run", device="cpu")
    split = read_test_split(run, open_run_source(run, None))
    assert len(split.labels) == 44
    with pytest.raises(ExportError, match="are not those of the run"):
        read_test_split(run, open_source("digits", fold="3/40"))


def test_a_labels_file_and_an_archive_of_its_folder_are_found_again(photos: Path, tmp_path: Path) -> None:
    data = shutil.copytree(photos, tmp_path / "photos")
    rows = [f"{path.relative_to(data)};{path.parent.name};{path.stem}" for path in data.glob("*/*.jpg")]
    (data / "labels.csv").write_text("\n".join(["image;colour;group", *rows]))
    options = {"model": "nano", "epochs": 1, "size": 16, "device": "cpu", "cache": str(tmp_path / "cache")}
    run = train(data / "labels.csv", columns=["image", "colour"], out=tmp_path / "run", **options)
    assert len(read_test_split(run, open_run_source(run, None)).labels) == 6
    run = train(photos, group=r"(\d+)[.]jpg", out=tmp_path / "other", **options)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", photos.parent, photos.name)
    assert len(read_test_split(run, open_run_source(run, archive)).labels) == 6
