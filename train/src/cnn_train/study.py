"""The study of a hyperparameter search: Optuna's database of trials, which several processes may share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_infer.paths.naming import printable
from cnn_infer.run_files import LOCK
from filelock import FileLock, Timeout

from cnn_train.config import Config
from cnn_train.errors import RunError
from cnn_train.sqlite_url import sqlite_url

if TYPE_CHECKING:
    from optuna import Study

STUDY, BEST = "study.db", "best.toml"
"""The files of a search in its folder: Optuna's SQLite database, and the best configuration."""

START_UP, WARM_UP = 4, 0.25
"""Trials that are never pruned, and the share of the epochs before which no trial is."""

WAIT_FOR_DATABASE = 60.0
"""Seconds to wait for another process that holds SQLite's lock."""

FIRST = "defaults"
"""The attribute of the trial that has the default values."""


def open_study(path: Path, known: Mapping[str, Any], start: Config, *, overwrite: bool) -> Study:
    """Open the study in a folder, or begin one, and make sure that the default values are tried.

    Args:
        path: The folder; it is created if it is missing.
        known: What must be equal in all calls that work on the study.
        start: The default values.
        overwrite: Begin anew.

    Raises:
        RunError: the study has other ``known`` values, or is of another version of Optuna.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings show an error in a trial with a traceback
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / LOCK):  # two processes may start at once
        if overwrite:
            (path / STUDY).unlink(missing_ok=True)
            (path / BEST).unlink(missing_ok=True)
        try:
            storage = optuna.storages.RDBStorage(
                sqlite_url(path / STUDY), engine_kwargs={"connect_args": {"timeout": WAIT_FOR_DATABASE}}
            )
        except RuntimeError as error:
            raise _unusable(path, error) from error
        study = optuna.create_study(
            storage=storage,
            study_name="cnn-train",
            load_if_exists=True,
            sampler=optuna.samplers.TPESampler(constant_liar=True),
            pruner=optuna.pruners.MedianPruner(START_UP, round(WARM_UP * start.epochs)),
        )
        stored = json.dumps(known, sort_keys=True)
        if study.user_attrs.get("known", stored) != stored:
            raise RunError(f"the study in {path} has other options or data: pass the same, or another --out")
        study.set_user_attr("known", stored)
        tried = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
        if not any(
            trial.user_attrs.get(FIRST) and (trial.state != TrialState.RUNNING or _is_at_work(path, trial.number))
            for trial in study.get_trials(deepcopy=False, states=tried)
        ):
            values = {"lr": 1.0, "weight_decay": 1.0, "augment": "", "model": start.model}
            study.enqueue_trial(values, user_attrs={FIRST: True})
    return study


@contextmanager
def at_work(path: Path, number: int) -> Iterator[None]:
    """Mark a trial as at work, by a lock on a file: the system releases it when the process ends, even if it is killed.

    In Optuna's database the trial of a killed process is running for ever. Between Optuna's note that a trial runs and
    this mark, another process may take the trial for one of a killed process, and try the default values too.

    Args:
        path: The folder of the study.
        number: Number of the trial.

    Raises:
        OSError: the mark cannot be written.
    """
    file = _mark(path, number)
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot remove an open file
                file.unlink()


def _is_at_work(path: Path, number: int) -> bool:
    file = _mark(path, number)
    if not file.exists():  # FileLock would create it
        return False
    try:
        with FileLock(file, timeout=0), suppress(OSError):  # Windows cannot remove an open file
            file.unlink()
        return False
    except Timeout:
        return True


def _mark(path: Path, number: int) -> Path:
    return path / f".trial-{number}.lock"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the study's database, or of a file beside it, into one line.

    Raises:
        RunError: the database is damaged, or a file cannot be written.
    """
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OptunaError) as error:
        raise _unusable(path, error) from error
    except OSError as error:
        raise RunError(
            f"cannot write {printable(error.filename or path)}: {error.strerror or error}: pass another --out, or "
            "free some space"
        ) from error


def _unusable(path: Path, error: Exception) -> RunError:
    cause = getattr(error, "orig", None) or error.__cause__ or error
    reason = str(getattr(cause, "orig", None) or cause).partition("\n")[0].rstrip(".")
    if reason == "database is locked":
        return RunError(f"{printable(path / STUDY)} is locked: another process uses it: run the same command again")
    return RunError(
        f"{printable(path / STUDY)} cannot be used: {reason}: free some space, restore the file, or begin anew with "
        "--overwrite"
    )
