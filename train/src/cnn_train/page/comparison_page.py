"""The page of a comparison: ``cnn-train --compare RUN RUN --html FILE``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnn_infer.page.confidence import reliability
from cnn_infer.page.render import render
from cnn_infer.system.atomic import write_text

from cnn_train.compared import open_compared, read_test
from cnn_train.comparison import Comparison
from cnn_train.destinations import check_results
from cnn_train.page.training_page import picture_of
from cnn_train.run.report import versions

MOST_PICTURES = 60
"""Most pictures with different answers that are shown."""


def write_comparison(
    found: Comparison,
    file: str | os.PathLike[str],
    runs: Sequence[str | os.PathLike[str]],
    *,
    data: str | os.PathLike[str] | None = None,
) -> None:
    """Write a comparison as one web page that opens offline.

    Args:
        found: The result of :func:`cnn_train.compare`.
        file: The file to write; an earlier one is replaced.
        runs: The networks, as they were compared: the pictures that the page shows are decoded as for the first one.
        data: New place of the data set, if it has moved.

    Raises:
        InputError: Jinja is not installed, the page's folder is missing, or the file belongs to a run or is read.
        RunError: the data set is not found.
    """
    check_results(html=file, runs=runs, read=[data])
    _, (split,) = read_test([open_compared(runs[0])], data)
    numbers = {name: number for number, name in enumerate(split.names)}
    best = max(found.models, key=lambda model: model.accuracy)
    values: dict[str, Any] = {
        "found": found,
        "best": best,
        "charts": [
            (model.name, *reliability(model.calibration, f"reliability-{number}"))
            for number, model in enumerate(found.models, 1)
        ],
        "pictures": [
            (one, picture_of(split, numbers[one.path]) if one.path in numbers else None)
            for one in found.pictures[:MOST_PICTURES]
        ],
        "versions": versions(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    write_text(Path(file), render("comparison.html.jinja", values, ["cnn_train.page"]))
