"""Under which conditions a result was measured: what stands above the figures in all of benchmarks/results/."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from cnn_infer.system import machine


def conditions(command: str, packages: Iterable[str] = (), **options: object) -> dict[str, Any]:
    """The command, the machine, and the versions of those ``packages`` that are installed.

    Args:
        command: The script and its arguments, with the names of its docstring (RUN, PICTURES) for what lies anywhere.
        packages: Distributions.
        options: What else the script was told; None for what it was not, a sequence for several values.
    """
    told = [
        f" --{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
        for name, value in options.items()
        if value is not None
    ]
    installed = {found.metadata["Name"] for found in metadata.distributions()}
    return {
        "command": f"python benchmarks/{command}{''.join(told)}",
        "machine": machine.description(),
        "versions": {name: metadata.version(name) for name in packages if name in installed},
    }


def short(model: Path) -> str:
    """A model's run and file, without where they lie."""
    return "/".join(model.resolve().parts[-2:])
