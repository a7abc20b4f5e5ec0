"""The job that a run folder belongs to: how a command that torchrun starts again finds its training and continues it.

torchrun restarts the same command after a process was lost and when a node joins, and a scheduler starts it again on
another machine. What stays the same is the ``--rdzv-id``. The main process writes it into the run folder, as
``job.json``, with the options of the command. A command with the same id continues that training, whatever number of
processes it has then.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnn_infer.paths.find import folders_holding
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import JOB, RUNS
from cnn_infer.system.atomic import write_text

from cnn_train import distributed
from cnn_train.errors import RunError

SEEN_WITHIN = 60.0
"""Seconds in which all nodes must see a file that the main process writes: NFS clients keep the attributes of folders
for as long (``acdirmax`` in nfs(5))."""


def find_earlier(out: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> Path | None:
    """Return the run folder that this job began before, or None: ``out``, or a folder in ``runs/``.

    All processes call this together; only the main process reads the disk.

    Args:
        out: The run folder; None to search those in ``runs/`` for one with the same options.
        options: The options of the command.

    Raises:
        RunError: the job began the training in ``out`` with other options.
    """
    return None if distributed.job_id() is None else distributed.compute_on_main(lambda: _find(out, options))


def _find(out: str | os.PathLike[str] | None, options: Mapping[str, Any]) -> Path | None:
    given = _plain(options)
    for path in reversed(folders_holding(JOB, RUNS)) if out is None else [Path(out)]:
        stored = _read(path / JOB)
        if stored.get("job") != distributed.job_id():
            continue
        known: dict[str, Any] = stored["options"]
        other = sorted(name for name in {*given, *known} if given.get(name) != known.get(name))
        if not other:
            return path
        if out is not None:
            raise RunError(
                f"the training in {printable(path)} was started by this job, {stored['job']}, with other options "
                f"({', '.join(other)}): pass another --rdzv-id to torchrun"
            )
    return None


def claim(path: Path, options: Mapping[str, Any]) -> None:
    """Write the job into a run folder, and check that all nodes see the folder. Without a job do nothing.

    All processes call this together.

    Raises:
        RunError: a node does not see the folder.
    """
    job = distributed.job_id()
    if job is None:
        return
    document = {"job": job, "session": uuid.uuid4().hex, "options": _plain(options)}
    written = distributed.compute_on_main(lambda: _write(path / JOB, document))
    end = time.monotonic() + SEEN_WITHIN
    while not (seen := _read(path / JOB) == written) and time.monotonic() < end:
        time.sleep(0.1)
    if blind := distributed.differing_nodes(seen):
        raise RunError(
            f"{' and '.join(blind)} cannot see the run folder {printable(path)} of the main process: pass an --out "
            "that all nodes share, such as a folder on NFS"
        )


def _write(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    write_text(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    return document


def _read(path: Path) -> dict[str, Any]:
    """The job in a run folder; empty if there is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("options"), dict) else {}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON gives them back: tuples become lists, paths strings."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(options), default=str))
    return plain
