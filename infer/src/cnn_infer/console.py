"""What the three commands print: one line for an error, log messages and progress on standard error.

The packages report through ``logging``. Only a command installs the handler that prints, so a library call prints
nothing.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from cnn_infer.errors import EdgeCNNError
from cnn_infer.system.interrupt import INTERRUPTED, raise_again


def main(command: click.Command, speaks: Callable[[], bool] = lambda: True) -> None:
    """Run a command and leave the process with its exit code: the one place where errors become text.

    Args:
        command: What to run.
        speaks: Asked when there is an error: whether this process is the one to say it.
    """
    name = command.name or "edgecnn"
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed by whoever started this
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115 - for the rest of the process
    warnings.filterwarnings("ignore", module="PIL")  # of damaged details; a picture that cannot be read gets its row
    try:
        raise_again()
        with _printed_logs():
            sys.exit(command.main(prog_name=name, standalone_mode=False) or 0)
    except click.exceptions.Exit as left:
        sys.exit(left.exit_code)
    except click.ClickException as error:
        _fail(speaks, name, f"{error.format_message().rstrip('.')} ({name} --help explains)", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail(speaks, name, "interrupted", INTERRUPTED)
    except EdgeCNNError as error:
        _fail(speaks, name, str(error), error.exit_code)
    except MemoryError:
        _fail(speaks, name, "not enough memory: take a smaller size or batch size", EdgeCNNError.exit_code)
    except OSError as error:
        # Whatever of standard output could not be written must not be tried again on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f": {error.filename}" if error.filename else ""
        _fail(speaks, name, f"{error.strerror or error}{where}", EdgeCNNError.exit_code)


PACKAGES = ("cnn_infer", "cnn_train", "cnn_export")


class _PrintHandler(logging.Handler):
    """Prints a message as the commands do; a warning says that it is one."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        say(prefix + record.getMessage())


@contextmanager
def _printed_logs() -> Iterator[None]:
    """Print what the three packages log at INFO and above, as long as a command runs."""
    handler = _PrintHandler()
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def _in_a_command() -> bool:
    return any(isinstance(handler, _PrintHandler) for handler in logging.getLogger(__package__).handlers)


def _fail(speaks: Callable[[], bool], name: str, text: str, code: int) -> None:
    if speaks():
        click.echo(f"{name}: {shown(text)}", err=True)
    sys.exit(code)


def shown(text: str) -> str:
    """One line: names may hold line breaks and terminal commands, which are shown, not obeyed."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say(*lines: str) -> None:
    """Lines for a person, on standard error, so that results can be piped; each is :func:`shown`."""
    click.echo("\n".join(map(shown, lines)), err=True)


@contextmanager
def progress(what: str, total: int | None = None, *, unit: str = "pictures") -> Iterator[Callable[[int], None]]:
    """Show how far a long piece of work is. Yields ``advance(count)``.

    A bar where standard error is a terminal; elsewhere a plain line every ten seconds, none for short work. Nothing
    where no command runs: a library call prints nothing.
    """
    if not _in_a_command():
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _plain_progress(what, total, unit)
        return
    # rich is loaded only where it shows something: it costs a short command a tenth of a second
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _plain_progress(what: str, total: int | None, unit: str) -> Callable[[int], None]:
    done, said = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            say(f"{what}: {done:,}{f' of {total:,}' if total else ''} {unit}")

    return advance
