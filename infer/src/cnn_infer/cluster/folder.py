"""The folder of a job: lists of pictures, rows and counts of each part, and the marks of a whole job.

Names that start with ``_`` are skipped by the readers of such folders (Spark, Arrow, DuckDB's patterns on ``part-*``),
so all that is not rows has such a name::

    part-00000000.parquet     rows of part 0
    _parts/00000000.json      its pictures
    _parts/00000000.done.json its counts, written after its rows
    _job.json                 what the job was started with, written after the lists of all parts
    _manifest.json            what each part has, written after the last part
    _SUCCESS                  empty, written last

``_parts`` has paths and URLs as they were given, also with credentials. So only this user can read it, and it is
deleted before ``_SUCCESS`` is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from cnn_infer.cluster.in_flight import in_flight, writer
from cnn_infer.cluster.listing import list_of, pictures_of
from cnn_infer.errors import ClusterError, InputError
from cnn_infer.paths.find import Found
from cnn_infer.paths.naming import printable
from cnn_infer.storage import objects
from cnn_infer.storage.listing import entries
from cnn_infer.storage.urls import is_url, is_web
from cnn_infer.system.atomic import write_bytes

JOB = "_job.json"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
FORMAT = 2
"""Version of the layout of the folder."""

_PARTS = "_parts"
_COUNTS = ".done.json"
_LARGEST = 1 << 34  # bytes of a part that is read back
_DAMAGES = (OSError, ValueError, KeyError, TypeError, RecursionError, InputError)


class JobFolder:
    """The folder of a job, on a file system that all nodes share or in object storage.

    Args:
        place: Its path or URL.
        form: ``parquet``, ``jsonl`` or ``csv``.

    Raises:
        InputError: it is the URL of a web server.
    """

    def __init__(self, place: str, form: str) -> None:
        if is_url(place) and is_web(place):
            raise InputError(f"a web server can only be read: {printable(place)}: choose another --output")
        self._remote = is_url(place)
        self.place = place.rstrip("/") if self._remote else os.path.abspath(place)
        self._form = form

    def __str__(self) -> str:
        return printable(self.place)

    def check_free(self) -> None:
        """Check that a new job may begin in the folder.

        Raises:
            InputError: it is not empty, no folder, or cannot be listed.
        """
        try:
            names = set(islice(self._names(), 2))
        except NotADirectoryError as error:
            raise InputError(f"--output with --ray names a folder, and {self} is a file") from error
        except OSError as error:
            raise InputError(f"cannot list the folder {self}: {error.strerror}") from error
        if not names:
            return
        what, hint = "not empty", ""
        if self._has(SUCCESS):
            what = "the output of a finished job"
        elif self._has(JOB):
            hint = "pass --resume to continue its job, or "
        elif names == {_PARTS}:
            what, hint = "what is left of a job that was killed during its listing", "delete it, or "
        raise InputError(f"{self} is {what}: {hint}choose another folder for --output")

    def _names(self, below: str = "") -> Iterator[str]:
        """Yield the names in the folder, or in one below it; none if it does not exist."""
        place = self._place(below) if below else self.place
        if self._remote:
            found = objects.look_up(place)
            if found is not None and not found.folder:
                raise NotADirectoryError
            yield from () if found is None else (entry.name for entry in entries(place) if entry.name)
        elif os.path.lexists(place):
            with os.scandir(place) as listing:
                yield from (entry.name for entry in listing)

    def begin(self) -> None:
        """Create the folder, if a job that is resumed has not done so.

        Raises:
            InputError: it cannot be created.
        """
        if self._remote:
            return
        try:
            Path(self.place).mkdir(exist_ok=True)
            Path(self.place, _PARTS).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot create the folder {self}: {error.strerror}") from error

    def rows_name(self, part: int) -> str:
        """The name of the file with the rows of a part."""
        return f"part-{part:08}.{self._form}"

    @contextmanager
    def lists(self, parts: int | None = None) -> Iterator[Callable[[int, list[Found]], None]]:
        """Yield a function that writes the list of the pictures of a part; all are written at the end of the block.

        If the block of a new job raises, for example on Ctrl-C, the lists are deleted. A resumed job writes its lists
        again, because they may be damaged, and keeps the counts beside them.

        Args:
            parts: The number of parts of a resumed job; None for a new job.

        Raises:
            InputError, OSError: a list cannot be written; from the function, this list or an earlier one.
        """
        written = 0
        try:
            with writer() if self._remote else nullcontext(write_bytes) as write:

                def keep(part: int, pictures: list[Found]) -> None:
                    nonlocal written
                    if parts is not None and part >= parts:
                        return  # the set of files grew, and the job is refused at the end of the listing
                    written = part + 1
                    write(self._place(_list_name(part)), list_of(pictures))

                yield keep
        except BaseException:
            if parts is None:
                self._delete_parts(written)
            raise

    def read_list(self, part: int) -> list[Found]:
        """Return the pictures of a part, in order.

        Raises:
            ClusterError: the list is missing or damaged.
        """
        try:
            return pictures_of(self._read(_list_name(part)))
        except _DAMAGES as error:
            raise ClusterError(f"the list of part {part} in {self} cannot be read ({error})") from error

    def write_part(self, part: int, rows: bytes, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a part, then its counts; return these counts.

        They have beside ``facts`` size and SHA-256 of the rows, and when they were written, in seconds since 1970.
        """
        self._write(self.rows_name(part), rows)
        written = {"bytes": len(rows), "sha256": hashlib.sha256(rows).hexdigest(), "ended": time.time()}
        facts = {**facts, **written}
        self._write(_counts_name(part), json.dumps(facts).encode())
        return facts

    def parts_done(self) -> int:
        """Return for how many parts there are counts."""
        return sum(name.endswith(_COUNTS) for name in self._names(_PARTS))

    def counts(self, part: int) -> dict[str, Any] | None:
        """Return the counts of a part; None if it is not done, or its counts are damaged."""
        try:
            return _counts(self._read(_counts_name(part)))
        except _DAMAGES:
            return None

    def finished(self, parts: Iterable[int]) -> Iterator[dict[str, Any] | None]:
        """Yield the counts of parts, in order; None if the rows of a part are missing or have another size."""
        if self._remote:
            yield from in_flight(map(self._finished, parts))
            return
        for part in parts:
            path, counts = Path(self._place(self.rows_name(part))), self.counts(part)
            yield counts if counts and path.is_file() and path.stat().st_size == counts["bytes"] else None

    async def _finished(self, part: int) -> dict[str, Any] | None:
        try:
            counts = _counts(await objects.fetch(self._place(_counts_name(part)), _LARGEST))
            rows = None if counts is None else await objects.find(self._place(self.rows_name(part)))
        except _DAMAGES:
            return None
        return counts if counts and rows and not rows.folder and rows.size == counts["bytes"] else None

    def is_whole(self, part: int, counts: dict[str, Any]) -> bool:
        """Whether the rows of a finished part are those that its counts describe.

        A store checks what is uploaded and replaces only whole objects: at a URL, the size says it.
        """
        if self._remote:
            return True
        try:
            return hashlib.sha256(self._read(self.rows_name(part))).hexdigest() == str(counts["sha256"])
        except _DAMAGES:
            return False

    def forget(self, parts: Iterable[int]) -> None:
        """Delete the counts of parts, so that they are done again."""
        self._delete(map(_counts_name, parts))

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write a document of the whole job: :data:`JOB` or :data:`MANIFEST`."""
        self._write(name, json.dumps({"format": FORMAT, **document}, indent=1).encode() + b"\n")

    def read_job(self) -> dict[str, Any]:
        """Return what an unfinished job was started with.

        Raises:
            InputError: the job is finished, there is none, or its description is damaged.
        """
        if self._has(SUCCESS):
            raise InputError(f"nothing to resume: the job in {self} is finished: leave out --resume")
        if not self._has(JOB):
            raise InputError(f"nothing to resume: there is no {JOB} in {self}: leave out --resume")
        try:
            found = json.loads(self._read(JOB))
            if found["format"] != FORMAT or not all(type(found[key]) is int for key in ("parts", "pictures")):
                raise ValueError("another version")
            if not isinstance(found["made_with"], dict):
                raise TypeError("made_with")
            return dict(found)
        except _DAMAGES as error:
            raise InputError(
                f"{JOB} in {self} is damaged ({error}): choose another folder and start again without --resume"
            ) from error

    def finish(self, parts: int) -> None:
        """Delete the lists and counts of the parts, and mark the job as finished."""
        self._delete_parts(parts)
        self._write(SUCCESS, b"")

    def _delete_parts(self, parts: int) -> None:
        if self._remote:
            self._delete(name(part) for part in range(parts) for name in (_list_name, _counts_name))
        else:
            shutil.rmtree(self._place(_PARTS), ignore_errors=True)

    def _delete(self, names: Iterable[str]) -> None:
        if self._remote:
            for _ in in_flight(objects.remove(self._place(name)) for name in names):
                pass
        else:
            for name in names:
                Path(self._place(name)).unlink(missing_ok=True)

    def _place(self, name: str) -> str:
        return f"{self.place}/{name}" if self._remote else os.path.join(self.place, name)

    def _has(self, name: str) -> bool:
        return objects.exists(self._place(name)) if self._remote else os.path.isfile(self._place(name))

    def _read(self, name: str) -> bytes:
        if self._remote:
            return objects.read(self._place(name), _LARGEST)
        return Path(self._place(name)).read_bytes()

    def _write(self, name: str, data: bytes) -> None:
        (objects.write if self._remote else write_bytes)(self._place(name), data)


def _list_name(part: int) -> str:
    return f"{_PARTS}/{part:08}.json"


def _counts_name(part: int) -> str:
    return f"{_PARTS}/{part:08}{_COUNTS}"


def _counts(data: bytes) -> dict[str, Any] | None:
    """The counts of a part.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: they are damaged.
    """
    found = json.loads(data)
    if all(type(found[key]) is int for key in ("pictures", "errors", "bytes")) and found["counted"]:
        return dict(found)
    return None
