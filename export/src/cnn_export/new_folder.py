"""A new folder of files, which appears when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnn_infer.paths.naming import printable
from cnn_infer.storage.urls import was_url

from cnn_export.errors import ExportError


def check_new_folder(path: str | os.PathLike[str]) -> None:
    """Check that a folder can be written.

    Raises:
        ExportError: there is a file of this name, or a folder with files in it, or it is a URL.
    """
    folder = Path(path)
    if was_url(path):
        raise ExportError(f"a folder of this machine is needed, not a URL: {printable(path)}")
    if folder.is_dir():
        if any(folder.iterdir()):
            raise ExportError(f"the folder is not empty: {printable(path)}: name a new one")
    elif folder.exists():
        raise ExportError(f"it is a file, not a folder: {printable(path)}: name a new folder")


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a folder whole: its files go to a temporary folder beside it, which is renamed at the end of the block.

    If the block raises (a full disk, Ctrl-C), the temporary folder is deleted.

    Yields:
        The temporary folder.

    Raises:
        ExportError: as :func:`check_new_folder`.
        OSError: the disk is full, or writing is not permitted.
    """
    check_new_folder(path)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}.partial")
    try:
        partial.mkdir()
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
