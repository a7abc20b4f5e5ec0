"""Checks of the files for results: they must not overwrite a picture, a model or a list of paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_infer.archives.access import stat_of
from cnn_infer.command.growing_file import SUFFIX
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import EXTENSIONS
from cnn_infer.storage.urls import is_url


def check_destinations(
    output: Path | None, report_file: Path | None, certificate: Path | None = None, html_file: Path | None = None
) -> list[Path]:
    """Return the files for results, after checks that need no other file.

    Args:
        output: The file for the rows; None for standard output.
        report_file: The file for the report; None for no report.
        certificate: The file for the certificate; None for no certificate.
        html_file: The file for the page; None for no page.

    Raises:
        InputError: a folder is missing, a name ends like that of a picture or a model, two are the same file, or a page
            is asked for and Jinja is not installed.
    """
    named = {"--output": output, "--report": report_file, "--certificate": certificate, "--html": html_file}
    targets = {option: target for option, target in named.items() if target is not None}
    for target in targets.values():
        if not target.absolute().parent.is_dir():
            raise InputError(f"no such folder: {printable(target.absolute().parent)}")
        check_name(target, os.path.realpath(target))  # a symbolic link may lead to a picture in a folder
    seen: dict[str, str] = {}
    for option, target in targets.items():
        place = os.path.realpath(target)
        if place in seen:
            raise InputError(f"{seen[place]} and {option} name the same file: {printable(target)}")
        seen[place] = option
    if output is not None and (kept := seen.get(os.path.realpath(output) + SUFFIX)):
        raise InputError(
            f"{printable(targets[kept])} is the manifest of --output, which --resume needs: "
            f"choose another file for {kept}"
        )
    if html_file is not None:
        from cnn_infer.page.render import check_installed

        check_installed()
    return [*targets.values()]


def check_name(target: Path | str, *others: str) -> None:
    """Refuse a file or URL for results whose name ends like that of a picture or a model.

    Args:
        target: The file or URL.
        others: Other names of it.

    Raises:
        InputError: a name does.
    """
    if {os.path.splitext(name)[1].lower() for name in (target, *others)} & {*EXTENSIONS, ".onnx"}:
        raise InputError(
            f"{printable(target)} has the name of a picture or a model: choose another file for the results"
        )


def check_not_read(targets: Sequence[Path], sources: Iterable[str | int]) -> None:
    """Refuse to overwrite a file that is read. Hard and symbolic links to the same file are recognised.

    Args:
        targets: Files to write; those that do not exist are skipped.
        sources: Paths and file descriptors of the files to read; URLs and those that do not exist are skipped.

    Raises:
        InputError: a target is also a source.
    """
    written = {(status.st_dev, status.st_ino): target for target in targets if (status := _file_status(target))}
    if not written:
        return
    for source in sources:
        status = None if is_url(source) else _file_status(source)
        if status and (status.st_dev, status.st_ino) in written:
            name = printable(written[status.st_dev, status.st_ino])
            raise InputError(f"{name} is also an input: choose another file for the results")


def _file_status(source: str | int | Path) -> os.stat_result | None:
    """Return the status of a regular file, or of the archive that contains it; None for anything else."""
    try:
        status = stat_of(source) if isinstance(source, str) else os.stat(source)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return status if stat.S_ISREG(status.st_mode) else None
