"""Checks of arguments that several functions take."""

from __future__ import annotations

import operator

from cnn_infer.errors import InputError


def check_count(name: str, value: object) -> int:
    """Return an argument as a whole number of at least 1.

    Args:
        name: Its name, for the message.
        value: What was passed; whole numbers of NumPy are taken too.

    Raises:
        InputError: it is something else.
    """
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = 0
    if count < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    return count
