"""A file of rows that grows by whole rows, and a manifest beside it by which an interrupted run goes on.

The manifest says of how many rows and bytes the file consists, what they were made with, and what was counted on the
way. It is written after the rows it speaks of, in one piece, so whatever happens at any moment, the file's first bytes
are what it says; what comes after them is cut off by the run that goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import replacing

SUFFIX = ".manifest.json"
FORMAT = 1
SAVE_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """Where a run begins: after how many rows, and with what counted so far (None at the very beginning)."""

    rows: int
    counted: Any


def digest_of(paths: Iterable[str]) -> str:
    """SHA-256, hexadecimal, of the files' names, sizes and times of last change, in their order."""
    import hashlib  # only files need it, and OpenSSL comes with it

    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # it gets a row that says so
            facts = "none"
        digest.update(os.fsencode(path) + b"\0" + facts.encode() + b"\n")
    return digest.hexdigest()


class GrowingFile:
    """Rows of a run, in a file.

    Args:
        path: The file.
        made_with: What must be the same for a run that goes on: the model, the options, the files. JSON.
        resume: Go on where the manifest says, instead of beginning anew.

    Raises:
        InputError: there is nothing to resume, or something is not the same as it was; or there is something to resume
            that was not asked for.
    """

    def __init__(self, path: Path, made_with: Mapping[str, str], *, resume: bool) -> None:
        self._path = Path(os.path.realpath(path))
        self._manifest = self._path.with_name(self._path.name + SUFFIX)
        self._made_with = dict(made_with)
        if resume:
            self.start, size = self._read()
        else:
            if self._manifest.exists():
                raise InputError(
                    f"{printable(self._path)} is unfinished: pass --resume to go on with it, "
                    f"or delete {printable(self._manifest)} to begin anew"
                )
            self.start, size = Start(0, None), None
        self.rows = self.start.rows
        self._stream: IO[bytes] | None = None if size is None else self._opened(size)
        self._saved = time.monotonic()

    def _opened(self, size: int) -> IO[bytes]:
        stream = open(self._path, "r+b")  # noqa: SIM115 - as long as the run
        stream.truncate(size)
        stream.seek(size)
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Whatever happened: what is in the file stays there, and the manifest says how much of it is good."""
        with suppress(OSError):  # a full disk: rows that did not fit are made again
            if self._stream is not None:
                self._stream.close()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = f"{self._path} (make room, then --resume goes on)"

    def row(self, text: str, counted: Callable[[], Any]) -> None:
        """Append a row. Before the first one comes, what stood in the file stays.

        Args:
            text: With its line end; the first one with what stands above the rows.
            counted: Gives what was counted up to this row, as JSON has it; called now and then.
        """
        if self._stream is None:
            with replacing(self._path):
                pass  # an earlier file gives way to an empty one
            self._stream = self._opened(0)
            self.save(lambda: None)
        self._stream.write(text.encode())
        self.rows += 1
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save(counted)

    def save(self, counted: Callable[[], Any]) -> None:
        """Bring all rows to the disk, then say so in the manifest."""
        if self._stream is None:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())  # the manifest is, and must not outlive its rows where the power goes
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
        """All rows are there: bring them to the disk; the manifest has nothing more to say."""
        assert self._stream is not None  # without a picture there is an error
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._manifest.unlink(missing_ok=True)

    def _read(self) -> tuple[Start, int]:
        name = printable(self._path)
        try:
            found = json.loads(self._manifest.read_bytes())
            rows, size, made_with = found["rows"], found["bytes"], found["made_with"]
            if found["format"] != FORMAT or type(rows) is not int or type(size) is not int:
                raise ValueError("another version")
        except FileNotFoundError as error:
            raise InputError(f"nothing to resume: {name} is finished or was never begun: leave out --resume") from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{printable(self._manifest)} is damaged ({error}): begin anew without --resume"
            ) from error
        for key, value in self._made_with.items():
            if made_with.get(key) != value:
                raise InputError(
                    f"{key} changed since {name} was begun: restore what was, or begin anew without --resume"
                )
        if not self._path.is_file() or self._path.stat().st_size < size:
            raise InputError(f"{name} has fewer bytes than its manifest says: begin anew without --resume")
        return Start(rows, found.get("counted")), size
