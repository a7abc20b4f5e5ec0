"""Output of the three commands: errors, log messages and progress, all on standard error.

The packages report through ``logging``. Only a command installs the handler that prints, so library calls print
nothing.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import click

from cnn_infer.errors import EdgeCNNError
from cnn_infer.system.interrupt import INTERRUPTED, raise_on_interrupt
from cnn_infer.system.names import as_text

PACKAGES = ("cnn_infer", "cnn_train", "cnn_export")
"""The packages whose log messages a command prints."""

for _package in PACKAGES:  # without a handler, Python itself would print warnings to standard error
    logging.getLogger(_package).addHandler(logging.NullHandler())

PROGRESS_SECONDS = 10
"""Seconds between two lines of progress where standard error is not a terminal."""


def main(command: click.Command, prints_errors: Callable[[], bool] = lambda: True) -> None:
    """Run a command and exit with its code. All errors become one line of text here.

    Args:
        command: The command.
        prints_errors: Called after an error; returns whether this process prints it. Of several processes that
            train together, one does.
    """
    name = command.name or "edgecnn"
    _replace_closed_streams()
    warnings.filterwarnings("ignore", module="PIL")  # Pillow warns about pictures that it can read all the same

    def fail(text: str, code: int) -> None:
        if prints_errors():
            click.echo(f"{name}: {escaped(text)}", err=True)
        sys.exit(code)

    try:
        raise_on_interrupt()
        with _printed_logs():
            sys.exit(command.main(prog_name=name, standalone_mode=False) or 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        fail(f"{error.format_message().rstrip('.')} ({name} --help explains)", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("interrupted", INTERRUPTED)
    except EdgeCNNError as error:
        fail(str(error), error.exit_code)
    except MemoryError:
        fail("out of memory: choose a smaller picture size or batch size", EdgeCNNError.exit_code)
    except OSError as error:
        # discard buffered output that could not be written, or Python tries to write it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f": {error.filename}" if error.filename else ""
        fail(f"{error.strerror or error}{where}", EdgeCNNError.exit_code)


class _ClosedOutput(io.RawIOBase):
    """Standard output that the parent process closed (``cnn-infer ... >&-``): an error for whoever writes to it."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1  # the null device, since _replace_closed_streams

    def write(self, data: Any) -> int:
        if len(data):
            check_standard_output()
        return 0


def check_standard_output() -> None:
    """Check that standard output is open, before work whose result goes there.

    Raises:
        OSError: the parent process closed it.
    """
    if isinstance(getattr(sys.stdout, "buffer", None), _ClosedOutput):
        raise OSError(errno.EBADF, "standard output is closed: redirect it to a file or a pipe")


def _replace_closed_streams() -> None:
    """Replace streams that the parent process closed: standard error is discarded, standard output raises."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # or the next file to be opened would get what libraries print
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - open until the process ends
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_ClosedOutput(), encoding="utf-8", write_through=True)


class _PrintHandler(logging.Handler):
    """A log handler that prints messages to standard error, warnings with the prefix ``warning:``."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        message(prefix + record.getMessage())


@contextmanager
def _printed_logs() -> Iterator[None]:
    """Inside the block, print log messages of the three packages of level INFO and above."""
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


def escaped(text: str) -> str:
    """Return ``text`` as one printable line: line breaks and control characters become backslash escapes.

    Names from the operating system are decoded as UTF-8, whatever the locale; other bytes in them are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in as_text(text, "backslashreplace")
    )


def quantity(number: int, noun: str) -> str:
    """Return number and noun, in the plural unless ``number`` is 1: ``1 picture``, ``2,000 pictures``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def message(*lines: str) -> None:
    """Print lines to standard error, each :func:`escaped`."""
    click.echo("\n".join(map(escaped, lines)), err=True)


@contextmanager
def library_output() -> Iterator[None]:
    """Send what a library prints in this block to standard error; discard it if no command runs."""
    if _in_a_command():
        with redirect_stdout(sys.stderr):
            yield
        return
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
        yield


@contextmanager
def progress(what: str, total: int | None = None, *, unit: str = "pictures") -> Iterator[Callable[[int], None]]:
    """Show the progress of a long piece of work, inside a command; in a library call show nothing.

    On a terminal this is a bar, elsewhere a line every :data:`PROGRESS_SECONDS`.

    Args:
        what: The work, for example ``classifying``.
        total: Steps of the work; None if unknown.
        unit: What a step is, in the plural.

    Yields:
        ``advance(count)``, to be called after ``count`` more steps.
    """
    if not _in_a_command():
        yield lambda _: None
        return
    if not sys.stderr.isatty():
        yield _plain_progress(what, total, unit)
        return
    # imported late: rich adds a tenth of a second to the start
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    try:
        bar.start()
    except RuntimeError:  # the thread that draws the bar cannot be started
        bar.stop()
        yield _plain_progress(what, total, unit)
        return
    try:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
    finally:
        bar.stop()


def _plain_progress(what: str, total: int | None, unit: str) -> Callable[[int], None]:
    done, printed = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, printed
        done += count
        if time.monotonic() - printed >= PROGRESS_SECONDS:
            printed = time.monotonic()
            message(f"{what}: {done:,}{f' of {total:,}' if total else ''} {unit}")

    return advance
