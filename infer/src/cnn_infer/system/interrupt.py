"""Ctrl-C while a command loads its modules: one line, exit code 130.

Loading takes a command a third of a second, or several where PyTorch is among it, and there is nobody yet who would
turn the exception into a line; some modules even turn it into another. So until all is loaded the process just ends.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # as typing has it, which would have to be loaded first
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it (128 + SIGINT)."""


class _Leave:
    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *_: object) -> None:
        with suppress(OSError):  # standard error may be closed
            os.write(2, f"{self.name}: interrupted\n".encode())
        os._exit(INTERRUPTED)


def leave_at_once(name: str) -> None:
    """From now on Ctrl-C ends the process of the command ``name``, unless its starter wanted Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Leave(name))


def raise_again() -> None:
    """From now on Ctrl-C is Python's KeyboardInterrupt again."""
    if isinstance(signal.getsignal(signal.SIGINT), _Leave):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is only noticed, so that what was begun can be ended; a second one interrupts at once.

    Yields a function that says whether there was one. Outside the main thread Ctrl-C stays as it is.
    """
    seen = False

    def note(*_: object) -> None:
        nonlocal seen
        seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    import threading  # not before it is needed: what is loaded here is loaded by every command

    return threading.current_thread() is threading.main_thread()


@contextmanager
def while_loading(name: str) -> Iterator[None]:
    """:func:`leave_at_once`, and afterwards :func:`raise_again`."""
    leave_at_once(name)
    try:
        yield
    finally:
        raise_again()
