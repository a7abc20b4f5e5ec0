"""Results on standard output that are not rows."""

from __future__ import annotations

import sys

import click

from cnn_infer import console


def print_text(text: str) -> None:
    """Print to standard output, always in UTF-8, as the rows are; on a terminal without control characters."""
    if sys.stdout.isatty():
        text = "\n".join(map(console.escaped, text.split("\n")))
    click.echo(text.encode())
