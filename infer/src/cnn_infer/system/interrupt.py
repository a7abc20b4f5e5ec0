"""What Ctrl-C does: it ends a command in one line with exit code 130, also while the command imports its modules.

Imports take a third of a second, or several seconds with PyTorch. During that time no code is in place that turns
KeyboardInterrupt into one line, and some modules replace it with another exception. Until all modules are imported,
Ctrl-C therefore ends the process directly.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # importing typing first would take longer than this whole module
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""


class _ExitHandler:
    """A signal handler that prints one line and ends the process."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> None:
        with suppress(OSError):  # standard error may be closed
            os.write(2, f"{self.name}: interrupted\n".encode())
        os._exit(INTERRUPTED)


def exit_on_interrupt(name: str) -> None:
    """Let Ctrl-C end the process in one line, from now on.

    Where Ctrl-C is ignored (a shell's background job), it stays ignored.

    Args:
        name: The command's name, for the line.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _ExitHandler(name))


def raise_on_interrupt() -> None:
    """Undo :func:`exit_on_interrupt`: Ctrl-C raises KeyboardInterrupt again."""
    if isinstance(signal.getsignal(signal.SIGINT), _ExitHandler):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def while_loading(name: str) -> Iterator[None]:
    """Let Ctrl-C end the process in one line inside the block; see :func:`exit_on_interrupt`."""
    exit_on_interrupt(name)
    try:
        yield
    finally:
        raise_on_interrupt()


@contextmanager
def deferred_interrupt(on_interrupt: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Inside the block, record the first Ctrl-C instead of raising; a second one raises KeyboardInterrupt.

    Outside the main thread, and where Ctrl-C has another handler, nothing changes.

    Args:
        on_interrupt: Called at the first Ctrl-C, to end what the block may wait for.

    Yields:
        A function that returns whether Ctrl-C was pressed.
    """
    interrupted = False

    def record(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        on_interrupt()

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, record)
    try:
        yield lambda: interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def termination_as_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside the block, let SIGTERM raise KeyboardInterrupt. Outside the main thread nothing changes.

    Yields:
        A function that returns whether there was a SIGTERM.
    """
    if not _in_main_thread():
        yield lambda: False
        return
    terminated = False

    def interrupt(*_: object) -> None:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: terminated
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _in_main_thread() -> bool:
    import threading  # imported late: every command imports this module first

    return threading.current_thread() is threading.main_thread()
