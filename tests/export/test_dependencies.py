"""cnn-export declares every package that it imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "export"
FROM_AN_EXTRA = {"onnxruntime"}
"""The user chooses the build: the extra cpu or gpu of cnn-infer."""


def imported() -> set[str]:
    """The packages that the modules import, at their beginning or inside of functions."""
    names: set[str] = set()
    for path in PROJECT.glob("src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"cnn_export"}


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=~! ]", entry)[0] for entry in project["dependencies"]}
    distributions = packages_distributions()  # without those that are installed to be edited
    found = imported()
    assert {"cnn_infer", "numpy", "onnx", "torch"} < found
    missing = [
        name
        for name in sorted(found - FROM_AN_EXTRA)
        if declared.isdisjoint(one.lower() for one in distributions.get(name, [name.replace("_", "-")]))
    ]
    assert missing == []
