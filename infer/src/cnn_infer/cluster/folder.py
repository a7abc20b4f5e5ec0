"""The folder of a job: lists of pictures, rows and counts of each part, and the marks of a whole job.

Names that start with ``_`` are skipped by the readers of such folders (Spark, Arrow, DuckDB's patterns on ``part-*``),
so all that is not rows has such a name::

    part-00000.parquet     rows of part 0
    _parts/00000.json      its pictures
    _parts/00000.done.json its counts, written after its rows
    _job.json              what the job was started with, written after the lists of all parts
    _manifest.json         what each part has, written after the last part
    _SUCCESS               empty, written last
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cnn_infer.errors import ClusterError, InputError
from cnn_infer.paths.find import Found
from cnn_infer.paths.naming import printable
from cnn_infer.storage import objects
from cnn_infer.storage.urls import is_url
from cnn_infer.system.atomic import write_bytes

JOB = "_job.json"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
FORMAT = 1
"""Version of the layout of the folder."""

_LARGEST = 1 << 34  # bytes of a part that is read back
_DAMAGES = (OSError, ValueError, KeyError, TypeError, RecursionError, InputError)


class JobFolder:
    """The folder of a job, on a file system that all nodes share or in object storage.

    Args:
        place: Its path or URL.
        form: ``parquet``, ``jsonl`` or ``csv``.
    """

    def __init__(self, place: str, form: str) -> None:
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
        if self._remote:
            used = objects.exists(self.place)
        else:
            try:
                used = os.path.lexists(self.place) and any(os.scandir(self.place))
            except NotADirectoryError as error:
                raise InputError(f"--output with --ray names a folder, and {self} is a file") from error
            except OSError as error:
                raise InputError(f"cannot list the folder {self}: {error.strerror}") from error
        if used:
            what = "the output of a finished job" if self._has(SUCCESS) else "not empty"
            hint = "pass --resume to continue its job, or " if self._has(JOB) and not self._has(SUCCESS) else ""
            raise InputError(f"{self} is {what}: {hint}choose another folder for --output")

    def begin(self) -> None:
        """Create the folder.

        Raises:
            InputError: it cannot be created.
        """
        if self._remote:
            return
        try:
            Path(self.place).mkdir(exist_ok=True)
            Path(self.place, "_parts").mkdir()
        except OSError as error:
            raise InputError(f"cannot create the folder {self}: {error.strerror}") from error

    def rows_name(self, part: int) -> str:
        """The name of the file with the rows of a part."""
        return f"part-{part:05}.{self._form}"

    def write_list(self, part: int, pictures: list[Found]) -> None:
        """Write the list of the pictures of a part, grouped by the path under which they were found."""
        groups: list[tuple[str, list[str]]] = []
        for found in pictures:
            if not groups or groups[-1][0] != found.given:
                groups.append((found.given, []))
            groups[-1][1].append(found.path)
        self._write(_list_name(part), json.dumps(groups).encode())

    def read_list(self, part: int) -> list[Found]:
        """Return the pictures of a part, in order.

        Raises:
            ClusterError: the list is missing or damaged.
        """
        try:
            groups = json.loads(self._read(_list_name(part)))
            return [Found(str(path), str(given)) for given, paths in groups for path in paths]
        except _DAMAGES as error:
            raise ClusterError(f"the list of part {part} in {self} cannot be read ({error})") from error

    def write_part(self, part: int, rows: bytes, facts: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a part, then its counts with size and SHA-256 of the rows; return these counts."""
        facts = {**facts, "bytes": len(rows), "sha256": hashlib.sha256(rows).hexdigest()}
        self._write(self.rows_name(part), rows)
        self._write(_counts_name(part), json.dumps(facts).encode())
        return facts

    def counts(self, part: int) -> dict[str, Any] | None:
        """Return the counts of a part; None if it is not done, or its counts are damaged."""
        try:
            found = json.loads(self._read(_counts_name(part)))
            if all(type(found[key]) is int for key in ("pictures", "errors", "bytes")) and found["counted"]:
                return dict(found)
        except _DAMAGES:
            pass
        return None

    def is_whole(self, part: int, counts: dict[str, Any]) -> bool:
        """Whether the rows of a part are those that its counts describe."""
        try:
            return hashlib.sha256(self._read(self.rows_name(part))).hexdigest() == str(counts["sha256"])
        except _DAMAGES:
            return False

    def forget(self, part: int) -> None:
        """Delete the counts of a part, so that it is done again."""
        if self._remote:
            objects.delete(f"{self.place}/{_counts_name(part)}")
        else:
            Path(self.place, _counts_name(part)).unlink(missing_ok=True)

    def size(self, part: int) -> int | None:
        """Return the bytes of the rows of a part; None if there is no such file."""
        name = self.rows_name(part)
        if self._remote:
            found = objects.look_up(f"{self.place}/{name}")
            return None if found is None else found.size
        path = Path(self.place, name)
        return path.stat().st_size if path.is_file() else None

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

    def finish(self) -> None:
        """Mark the job as finished."""
        self._write(SUCCESS, b"")

    def _has(self, name: str) -> bool:
        if self._remote:
            return objects.exists(f"{self.place}/{name}")
        return os.path.isfile(os.path.join(self.place, name))

    def _read(self, name: str) -> bytes:
        if self._remote:
            return objects.read(f"{self.place}/{name}", _LARGEST)
        return Path(self.place, name).read_bytes()

    def _write(self, name: str, data: bytes) -> None:
        if self._remote:
            objects.write(f"{self.place}/{name}", data)
        else:
            write_bytes(os.path.join(self.place, name), data)


def _list_name(part: int) -> str:
    return f"_parts/{part:05}.json"


def _counts_name(part: int) -> str:
    return f"_parts/{part:05}.done.json"
