"""A file of rows and, beside it, a manifest with which an interrupted run can be resumed.

The manifest holds the number of rows and bytes in the file, what the rows were made with, and the counts so far. It is
replaced as a whole, after its rows are on disk. At any moment the file therefore starts with the rows of the manifest.
Bytes after them belong to unfinished rows: a resumed run cuts them off.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cnn_infer.command.made_with import MadeWith, check_unchanged
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import flush_to_disk, replacing

SUFFIX = ".manifest.json"
"""Appended to the name of the file of rows, this is the name of the manifest."""

FORMAT = 2
"""Version of the manifest."""

SAVE_SECONDS = 0.5
"""Shortest time between two saves of the manifest, in seconds."""


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        rows: Rows in the file at the start.
        counted: The counts of these rows, as JSON; None for a new file.
    """

    rows: int
    counted: Any


class GrowingFile:
    """The file of a run's rows. Use it as a context manager.

    Args:
        path: The file.
        made_with: What a resumed run must have in common with the interrupted one.
        resume: Whether to continue the file of an interrupted run.
        name: The name of the file for people; None for its path.

    Attributes:
        start: Where the run starts.
        rows: Rows in the file.

    Raises:
        InputError: with ``resume``: there is no manifest, it is damaged, or ``made_with`` changed. Without ``resume``:
            the file is that of an interrupted run.
    """

    def __init__(self, path: Path, made_with: MadeWith, *, resume: bool, name: str | None = None) -> None:
        self._path = Path(os.path.realpath(path))
        self._name = printable(self._path) if name is None else name
        self._manifest = self._path.with_name(self._path.name + SUFFIX)
        self._made_with = dict(made_with)
        if resume:
            self.start, size = self._read()
        else:
            if self._manifest.exists():
                raise InputError(
                    f"{self._name} is unfinished: pass --resume to continue it, "
                    f"or delete {printable(self._manifest)} to start again"
                )
            self.start, size = Start(0, None), None
        self.rows = self.start.rows
        self._stream: IO[bytes] | None = None if size is None else self._open(size)
        self._saved = time.monotonic()

    def _open(self, size: int) -> IO[bytes]:
        """Open the rows for writing after their first ``size`` bytes; the rest is cut off."""
        stream = open(self._path, "r+b")  # noqa: SIM115 - open until __exit__
        stream.truncate(size)
        stream.seek(size)
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file. After an error, file and manifest stay for ``--resume``."""
        with suppress(OSError):  # the disk is full: a resumed run writes the missing rows again
            if self._stream is not None:
                self._stream.close()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = f"{self._path} (free space, then continue with --resume)"

    def row(self, text: str, counted: Callable[[], Any]) -> None:
        """Append a row. An earlier file at the path is only replaced when the first row is written.

        Args:
            text: The row with its line end; the first row also with the header.
            counted: Returns the counts up to this row, as JSON. Called when the manifest is saved.
        """
        if self._stream is None:
            with replacing(self._path):
                pass  # an empty file replaces an earlier one
            self._stream = self._open(0)
            self.save(lambda: None)
        self._stream.write(text.encode())
        self.rows += 1
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save(counted)

    def save(self, counted: Callable[[], Any]) -> None:
        """Write all rows to disk, then save the manifest.

        Args:
            counted: Returns the counts up to the last row, as JSON.
        """
        if self._stream is None:
            return
        flush_to_disk(self._stream)  # before the manifest, which must not claim rows that a power failure loses
        document = {
            "format": FORMAT,
            "rows": self.rows,
            "bytes": self._stream.tell(),
            "made_with": self._made_with,
            "counted": counted(),
        }
        with replacing(self._manifest) as stream:
            stream.write(json.dumps(document).encode())
        self._saved = time.monotonic()

    def finish(self) -> None:
        """Write all rows to disk and delete the manifest: the run is complete."""
        assert self._stream is not None  # a run without a picture raises before
        flush_to_disk(self._stream)
        self._manifest.unlink(missing_ok=True)

    def _read(self) -> tuple[Start, int]:
        """Return where the interrupted run stopped, and the size of its rows in bytes."""
        name = self._name
        restart = f"delete {printable(self._manifest)} and start again without --resume"
        try:
            found = json.loads(self._manifest.read_bytes())
            rows, size, made_with = found["rows"], found["bytes"], found["made_with"]
            if found["format"] != FORMAT or type(rows) is not int or type(size) is not int:
                raise ValueError("another version")
            if not isinstance(made_with, dict):
                raise TypeError("made_with")
        except FileNotFoundError as error:
            raise InputError(
                f"nothing to resume: {name} is finished or was never started: leave out --resume"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"the manifest of {name} is damaged ({error}): {restart}") from error
        check_unchanged(made_with, self._made_with, name=name, restart=restart)
        if not self._path.is_file() or self._path.stat().st_size < size:
            raise InputError(f"{name} has fewer bytes than its manifest says: {restart}")
        return Start(rows, found.get("counted")), size
