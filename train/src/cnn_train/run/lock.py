"""A training at work in a run folder: the lock on the folder, and the error messages that say how to continue."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CHECKPOINT, CONFIG, LOCK
from filelock import FileLock, Timeout

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.errors import ConfigError, DivergedError, RunError, TrainingFailedError, TrainingInterruptedError
from cnn_train.run.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

WAIT_OF_A_JOB = 120.0
"""Seconds that a restarted job waits for the lock of its lost main process. An NFS server keeps the lock of a lost node
for 90 seconds, the usual lease."""


@contextmanager
def locked(path: Path, *, wait: float = 0) -> Iterator[None]:
    """Lock a run folder against other trainings. Of several processes only the main process holds the lock.

    The operating system releases the lock when the process ends, even if it is killed.

    Args:
        path: The run folder.
        wait: Seconds to wait for another process that holds the lock.

    Raises:
        RunError: there is no such folder, another training uses it, or the lock file cannot be written.
    """
    if not distributed.is_main_process():
        yield
        return
    if not path.is_dir():  # FileLock would create it
        raise RunError(f"no such run folder: {path}")
    lock = FileLock(path / LOCK)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if wait <= 0:
                raise
            log.info(f"another cnn-train uses {path}: waiting up to {wait:g} seconds until it ends")
            lock.acquire(timeout=wait)
    except Timeout:
        raise RunError(f"another cnn-train uses {path}: wait for it, stop it, or pass another --out") from None
    except OSError as error:
        raise RunError(f"cannot write in the run folder {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot remove an open file; the one that stays is empty
            (path / LOCK).unlink()
        lock.release()


@contextmanager
def explain_failures(path: Path) -> Iterator[None]:
    """Turn an error that ends the training early into one line: the reason, what is kept, and how to continue.

    Raises:
        TrainingFailedError: a file cannot be written, or memory ran out.
        DivergedError: as the block raised it; with a lower learning rate to resume with, if that may help.
        TrainingInterruptedError: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingInterruptedError(f"interrupted; {_how_to_continue(path)}") from None
    except DivergedError as error:
        how = _how_to_continue(path, lower_rate=True) if error.lower_rate else "start again with --overwrite"
        raise DivergedError(f"{error}; {how}", lower_rate=error.lower_rate) from error
    except OSError as error:
        reason = f"cannot write {printable(str(error.filename or path))}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"{reason}: free some space"
            raise TrainingFailedError(f"{reason}; {_how_to_continue(path)}", reason) from error
        raise TrainingFailedError(f"{reason}: {_how_to_continue(path)}", reason) from error
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = "out of memory: start again with a smaller --batch-size, --size or --model"
        raise TrainingFailedError(f"{reason}; {_how_to_continue(path)}", reason) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. PyTorch has an error type for it on GPUs only; on CPU and Metal the message says so."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text or "out of memory" in text


def _how_to_continue(path: Path, *, lower_rate: bool = False) -> str:
    """What is kept and the command that continues. It is read from the disk: the last write may have failed."""
    try:
        config, done = Config.load(path / CONFIG), len(load_checkpoint(path).epochs)
    except (RunError, ConfigError):
        return f"nothing is kept in {path}: start again with --overwrite"
    rate = f" --lr {config.lr / 10:.2g}" if lower_rate else ""
    return f"{done} of {config.epochs} epochs are kept in {path / CHECKPOINT}: cnn-train --resume --out {path}{rate}"
