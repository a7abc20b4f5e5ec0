"""Results that go to URLs: each is written to a file on this machine, and uploaded as a whole when the run is complete.

So no reader ever sees a part of a result, and an interrupted run leaves its rows here for ``--resume``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from posixpath import basename

from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.storage.urls import is_web


class Uploads:
    """The results of a run that go to URLs.

    Args:
        sources: The paths and URLs that are read.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = set(sources)
        self._urls: dict[Path, str] = {}

    def file_for(self, target: Path | str | None) -> Path | None:
        """Return the file on this machine for a result: the same one in each run with this URL.

        Args:
            target: A URL; a path and None are returned as they are.

        Raises:
            InputError: the URL is an input, that of a web server or a folder, there is no such bucket, or access is
                denied.
        """
        if not isinstance(target, str):
            return target
        import hashlib  # most results go to files

        from cnn_infer.storage.objects import look_up

        url = target
        if is_web(url):
            raise InputError(f"a web server can only be read: {printable(url)}")
        if url in self._sources:
            raise InputError(f"{printable(url)} is also an input: choose another URL for the results")
        found = look_up(url)
        if url.endswith("/") or (found is not None and found.folder):
            raise InputError(f"a folder, not the name of a file: {printable(url)}")
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{basename(url)}"
        file = _private_folder() / name
        self._urls[file] = url
        return file

    def send(self) -> None:
        """Upload all results.

        Raises:
            StorageError: access is denied, or the store failed; the files stay on this machine.
        """
        for file, url in self._urls.items():
            from cnn_infer.storage.objects import upload

            if file.exists():
                upload(file, url)

    def discard(self) -> None:
        """Delete the files on this machine."""
        for file in self._urls:
            file.unlink(missing_ok=True)


def _private_folder() -> Path:
    """The folder for the files, which only this user may use: others could foresee their names."""
    import tempfile

    folder = Path(tempfile.gettempdir(), f"cnn-infer-{os.getuid() if hasattr(os, 'getuid') else 'results'}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise InputError(f"{printable(folder)} is not a folder of this user: set TMPDIR to another folder")
    return folder
