"""Fill in the templates of a page. Every value is escaped: names from files and models never become markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnn_infer.console import escaped, quantity
from cnn_infer.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = "cnn_infer.page"

LONGEST_NAME = 200
"""Longer names are cut in the middle."""


def check_installed() -> None:
    """Check that pages can be written, before long work whose result is one.

    Raises:
        InputError: Jinja is not installed.
    """
    try:
        import jinja2  # noqa: F401 - imported late: only pages need it
    except ImportError as error:
        raise InputError("--html needs the package jinja2: pip install 'cnn-infer[report]'") from error


def render(template: str, values: dict[str, Any], packages: Sequence[str] = ()) -> str:
    """Return the page that a template makes of ``values``.

    Args:
        template: Name of the template, in the folder ``templates`` of one of the packages.
        values: What the template shows. Text in it is escaped.
        packages: Packages with templates besides this one.

    Raises:
        InputError: Jinja is not installed.
    """
    check_installed()
    page = _environment(tuple(packages)).get_template(template).render(values)
    return re.sub(r"\n\s*\n+", "\n", page)


def _environment(packages: tuple[str, ...]) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, PACKAGE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=escaped, name=shown_name, percent=percent, share=share, figure=figure)
    environment.filters.update(count=count, quantity=quantity)
    return environment


def shown_name(text: object) -> str:
    """Return a name as one printable line: control and direction characters become backslash escapes."""
    line = escaped(str(text))
    half = LONGEST_NAME // 2
    return line if len(line) <= LONGEST_NAME else f"{line[:half]}…{line[-half:]}"


def percent(value: float) -> str:
    """Return a share, 0 to 1, as a percentage with two decimals."""
    return f"{value:.2%}"


def share(value: float) -> str:
    """Return a share, 0 to 1, as a percentage with one decimal."""
    return f"{value:.1%}"


def count(value: int) -> str:
    """Return a whole number with separators of thousands."""
    return f"{value:,}"


def figure(value: float) -> str:
    """Return a number with four decimals, as metrics are printed."""
    return f"{value:.4f}"
