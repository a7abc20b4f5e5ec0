"""Results that go to URLs: each is written to a file on this machine, and uploaded as a whole when the run is complete.

So no reader ever sees a part of a result, and an interrupted run leaves its rows here for ``--resume``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from posixpath import splitext

from cnn_infer.command.destinations import check_name
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.storage.urls import is_web, protocol_of

_LONGEST_SUFFIX = 16


class Uploads:
    """The results of a run that go to URLs.

    Args:
        sources: The paths and URLs that are read.
        can_resume: Whether the same command takes ``--resume``.
    """

    def __init__(self, sources: Iterable[str], *, can_resume: bool) -> None:
        self._sources = set(sources)
        self._can_resume = can_resume
        self._urls: dict[Path, str] = {}

    def file_for(self, target: Path | str | None) -> Path | None:
        """Return the file on this machine for a result: the same one in each run with this URL.

        Args:
            target: A URL; a path and None are returned as they are.

        Raises:
            InputError: the URL is an input or another result, has the name of a picture or a model, is that of a
                folder or of a store that keeps nothing, there is no such bucket, or access is denied.
        """
        if not isinstance(target, str):
            return target
        import hashlib  # most results go to files

        from cnn_infer.storage.objects import look_up

        url = target
        check_target(url)
        check_name(url)
        if url in self._urls.values():
            raise InputError(f"two results have the same URL: {printable(url)}")
        if url in self._sources:
            raise InputError(f"{printable(url)} is also an input: choose another URL for the results")
        found = look_up(url)
        if url.endswith("/") or (found is not None and found.folder):
            raise InputError(f"a folder, not the name of a file: {printable(url)}")
        suffix = splitext(url)[1]  # of a name that may be longer than this machine allows
        name = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        file = _private_folder() / f"{name}{suffix if len(suffix) <= _LONGEST_SUFFIX else ''}"
        self._urls[file] = url
        return file

    def __bool__(self) -> bool:
        """Whether a result goes to a URL."""
        return bool(self._urls)

    def name_of(self, file: Path) -> str | None:
        """Return the URL to which a file goes, for people; None if it stays where it is."""
        return printable(self._urls[file]) if file in self._urls else None

    def send(self) -> None:
        """Upload all results.

        Raises:
            InputError: access is denied, or the store failed; the files stay on this machine.
        """
        for file, url in self._urls.items():
            from cnn_infer.storage.objects import upload

            if file.exists():
                try:
                    upload(file, url)
                except InputError as error:
                    advice = "; run the same command with --resume to upload them" * self._can_resume
                    raise InputError(f"{error}; the results are in {printable(file)}{advice}") from error

    def discard(self) -> None:
        """Delete the files on this machine."""
        for file in self._urls:
            file.unlink(missing_ok=True)


def check_target(target: Path | str | None) -> None:
    """Refuse the URL of a store that keeps no results.

    Raises:
        InputError: it is that of a web server, or of the memory of this process.
    """
    if isinstance(target, str) and is_web(target):
        raise InputError(f"a web server can only be read: {printable(target)}")
    if isinstance(target, str) and protocol_of(target) == "memory":
        raise InputError(
            f"{printable(target)} is lost when the command ends: choose a file or another URL for the results"
        )


def _private_folder() -> Path:
    """The folder for the files, which only this user may use: others could foresee their names."""
    import tempfile

    folder = Path(tempfile.gettempdir(), f"cnn-infer-{os.getuid() if hasattr(os, 'getuid') else 'results'}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise InputError(f"{printable(folder)} is not a folder of this user: set TMPDIR to another folder")
    return folder
