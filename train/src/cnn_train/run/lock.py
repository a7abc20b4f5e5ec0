"""One training at work in a run folder: alone in it, and whatever ends it early says how to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CHECKPOINT, CONFIG, LOCK
from filelock import FileLock, Timeout

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.errors import ConfigError, DivergedError, RunError, TrainingInterruptedError
from cnn_train.run.checkpoint import load_checkpoint


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run folder against other trainings; of several processes the first one holds it.

    The system lets go of the lock when the process ends, also where it is killed.

    Raises:
        RunError: there is no such folder, another process trains in it, or the lock cannot be written.
    """
    if not distributed.is_main_process():
        yield
        return
    if not path.is_dir():  # the lock would make it
        raise RunError(f"no such run folder: {path}")
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"another cnn-train is at work in {path}: wait for it, stop it, or name another --out") from None
    except OSError as error:
        raise RunError(f"cannot write in the run folder {path}: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open; what stays there is empty
            (path / LOCK).unlink()
        lock.release()


@contextmanager
def explain_failures(path: Path) -> Iterator[None]:
    """What ends the training in a run folder early becomes one line: why, what is kept, and how to go on.

    Raises:
        RunError: the disk refuses a file, or there is not enough memory.
        DivergedError: as the block raised it, and with a lower rate to go on with.
        TrainingInterruptedError: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise TrainingInterruptedError(f"interrupted; {_how_to_go_on(path)}") from None
    except DivergedError as error:
        raise DivergedError(f"{error}; {_how_to_go_on(path, lower_rate=True)}") from error
    except OSError as error:
        reason = f"cannot write {printable(str(error.filename or path))}: {error.strerror or error}"
        raise RunError(f"{reason}: make room; {_how_to_go_on(path)}") from error
    except RuntimeError as error:
        if not _is_want_of_memory(error):
            raise
        way_out = "train anew with a smaller --batch-size, --size or --model"
        raise RunError(f"not enough memory: {way_out}; {_how_to_go_on(path)}") from error


def _is_want_of_memory(error: RuntimeError) -> bool:
    """PyTorch has a type for it on cards alone; the processor and Metal say it in words."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in said or "out of memory" in said


def _how_to_go_on(path: Path, *, lower_rate: bool = False) -> str:
    """Read from the disk: what was to be kept may not have got there."""
    try:
        config, done = Config.load(path / CONFIG), len(load_checkpoint(path).epochs)
    except (RunError, ConfigError):
        return f"nothing is kept in {path}: train anew with --overwrite"
    rate = f" --lr {config.lr / 10:.2g}" if lower_rate else ""
    return f"{done} of {config.epochs} epochs are kept in {path / CHECKPOINT}: cnn-train --resume --out {path}{rate}"
