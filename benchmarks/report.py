"""What the benchmark scripts share: ``--output``, the conditions of a measurement, the JSON report, and errors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from cnn_infer import EdgeCNNError
from cnn_infer.system import machine


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's docstring, with the option ``--output``."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, metavar="JSON", help="also write the result to this file")
    return result


def conditions(command: str, packages: Iterable[str] = (), **options: object) -> dict[str, Any]:
    """The command line, the machine, and the versions of those ``packages`` that are installed.

    Args:
        command: The script and its arguments. Paths on this machine are replaced by the placeholders of the script's
            docstring (RUN, PICTURES), so that the report holds on every machine.
        packages: Names of distributions.
        options: Further options of the script. None leaves an option out; a sequence gives it several values.
    """
    given = [
        f" --{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
        for name, value in options.items()
        if value is not None
    ]
    installed = {found.metadata["Name"] for found in metadata.distributions()}
    return {
        "command": f"python benchmarks/{command}{''.join(given)}",
        "machine": machine.description(),
        "versions": {name: metadata.version(name) for name in packages if name in installed},
    }


def short(model: Path) -> str:
    """The run folder and the file name of a model, without the path that leads there."""
    return "/".join(model.resolve().parts[-2:])


def write(path: Path | None, document: dict[str, Any]) -> None:
    """Write a report as JSON; without a ``path`` do nothing."""
    if path is not None:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Run a script and exit. An error of EdgeCNN is one line, as in its commands."""
    try:
        sys.exit(main())
    except EdgeCNNError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
