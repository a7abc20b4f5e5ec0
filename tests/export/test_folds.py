"""A fold of a cross-validation exports like any run: its test pictures are found again."""

from __future__ import annotations

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
