"""Warnings that a process gives once, however often their cause occurs."""

from __future__ import annotations

from functools import cache


@cache
def warn_once(text: str) -> None:
    """Log a warning. Later calls with the same text do nothing.

    Args:
        text: One line. A command prints it; a library call prints nothing unless the program configures ``logging``.
    """
    import logging  # imported late: few runs have a warning

    package = logging.getLogger("cnn_infer")
    package.addHandler(logging.NullHandler())  # without a handler, Python itself would print it to standard error
    package.warning("%s", text)
