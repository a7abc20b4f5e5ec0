"""Checks of the files for results, before the work: they must not replace a file of a run, a model or the labels."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cnn_infer.command.destinations import check_destinations, check_not_read
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import EXPORT_FILES, LOCK, TRAINING_FILES


def check_results(
    *,
    report: str | os.PathLike[str] | None = None,
    html: str | os.PathLike[str] | None = None,
    runs: Iterable[str | os.PathLike[str]] = (),
    read: Iterable[str | os.PathLike[str] | None] = (),
) -> None:
    """Check that the files for results can be written and replace nothing that is read.

    Args:
        report: The file for the report; None for no report.
        html: The file for the page; None for no page.
        runs: Run folders, which may not exist yet, and exported files.
        read: Other files that are read, such as a labels file or an archive; None and folders are skipped.

    Raises:
        InputError: a folder is missing, a file is a folder, has the name of a picture or a model, is read, or belongs
            to a run; two are the same file; or a page is asked for and Jinja is not installed.
    """
    named = {"--report": report, "--html": html}
    for option, file in named.items():
        if file is not None and Path(file).is_dir():
            raise InputError(f"{printable(file)} is a folder: name a file with {option}")
    given_report, page = (None if file is None else Path(file) for file in named.values())
    targets = check_destinations(None, given_report, html_file=page)
    places = [os.fspath(place) for place in runs]
    check_not_read(targets, [*places, *(os.fspath(file) for file in read if file is not None)])
    folders = [os.path.realpath(os.path.dirname(place) if os.path.isfile(place) else place) for place in places]
    kept = {os.path.join(folder, name) for folder in folders for name in (*TRAINING_FILES, *EXPORT_FILES, LOCK)}
    for target in targets:
        if os.path.realpath(target) in kept:
            raise InputError(f"{printable(target)} is a file of a run: choose another file for the results")
