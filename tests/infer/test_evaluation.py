"""evaluate: what is refused before any picture is read. tests/infer/command/test_report.py checks the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from cnn_infer import Classifier, InputError, evaluate


@pytest.mark.parametrize("option", ["threads", "batch_size"])
def test_numbers_below_one_are_refused_by_name(rgb: Classifier, tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError) as found:
        evaluate(rgb, [tmp_path], **{option: 0})  # type: ignore[arg-type]
    assert str(found.value) == f"{option} must be a whole number of at least 1, not 0"
