"""Where results may be written: over nothing that is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_infer.command.growing_file import SUFFIX
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import EXTENSIONS


def check_destinations(output: Path | None, report_file: Path | None) -> list[Path]:
    """The files that results go to.

    Raises:
        InputError: a folder is missing, a name is that of a picture or a model, or both are one file.
    """
    targets = [target for target in (output, report_file) if target is not None]
    for target in targets:
        if not target.absolute().parent.is_dir():
            raise InputError(f"no such folder: {printable(target.absolute().parent)}")
        # where a link leads counts as well: it may be a picture in a folder
        suffixes = {Path(name).suffix.lower() for name in (target, os.path.realpath(target))}
        if suffixes & {*EXTENSIONS, ".onnx"}:
            raise InputError(f"{printable(target)} is a picture or a model: name another file for the results")
    if output is not None and report_file is not None:
        rows, report = os.path.realpath(output), os.path.realpath(report_file)
        if report == rows:
            raise InputError("--output and --report name the same file")
        if report == rows + SUFFIX:
            raise InputError(f"{printable(report_file)} is where --output keeps what --resume needs: name another file")
    return targets


def check_not_read(targets: Sequence[Path], sources: Iterable[str | int]) -> None:
    """Refuse to write over a file that is read, whatever the names and links by which it is known.

    Args:
        targets: Files to write; those that do not exist yet are no matter.
        sources: Paths and file descriptors; what does not exist is passed over.

    Raises:
        InputError: a target is one of the sources.
    """
    written = {(status.st_dev, status.st_ino): target for target in targets if (status := _file_status(target))}
    if not written:
        return
    for source in sources:
        status = _file_status(source)
        if status and (status.st_dev, status.st_ino) in written:
            name = printable(written[status.st_dev, status.st_ino])
            raise InputError(f"{name} is read: name another file for the results")


def _file_status(source: str | int | Path) -> os.stat_result | None:
    try:
        status = os.stat(source)
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return status if stat.S_ISREG(status.st_mode) else None
