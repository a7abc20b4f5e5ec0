"""The public names of the three packages: one list for ``__all__``, ``dir()``, star imports and type checkers."""

from __future__ import annotations

import ast
import importlib
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from cnn_infer import EdgeCNNError

ROOT = Path(__file__).parents[2]

PUBLIC = {
    "cnn_infer": [
        "CheckError",
        "ClassEvidence",
        "Classifier",
        "Deviation",
        "DeviceError",
        "Drift",
        "EdgeCNNError",
        "Explanation",
        "Guarantee",
        "Header",
        "InferError",
        "InputError",
        "Model",
        "ModelError",
        "PictureError",
        "Prediction",
        "ReceptiveField",
        "Replay",
        "Report",
        "Row",
        "STRANGER",
        "Spec",
        "StageResult",
        "StrangerRule",
        "Truth",
        "UNKNOWN",
        "Verification",
        "evaluate",
        "find_pictures",
        "judge",
        "latency",
        "newest_export",
        "open_model",
        "read_header",
        "to_pixels",
        "usable_cpus",
        "verify",
        "verify_all",
    ],
    "cnn_train": [
        "AUGMENTATIONS",
        "Check",
        "Comparison",
        "Config",
        "ConfigError",
        "CrossValidation",
        "DataError",
        "Dataset",
        "DivergedError",
        "Epoch",
        "Options",
        "Run",
        "RunError",
        "Source",
        "Split",
        "TrainError",
        "TrainingInterruptedError",
        "check",
        "compare",
        "cross_validate",
        "make_spec",
        "open_source",
        "plots",
        "prepare",
        "replay",
        "resolve",
        "train",
        "tune",
        "write_page",
    ],
    "cnn_export": [
        "Candidate",
        "Confidence",
        "Difference",
        "Export",
        "ExportError",
        "ExportOptions",
        "GraphError",
        "GuaranteeError",
        "Int8",
        "Parity",
        "ParityError",
        "RunOptions",
        "Stage",
        "Timing",
        "Vectors",
        "Verdict",
        "export",
        "export_lines",
        "export_network",
        "guarantee",
        "write_vectors",
    ],
}
"""A change of these lists is a change of the API: it belongs in the changelog."""

ERRORS = sorted(
    {
        error
        for package in PUBLIC
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        if module.name.endswith((".errors", ".failures"))
        for error in vars(importlib.import_module(module.name)).values()
        if isinstance(error, type) and issubclass(error, EdgeCNNError)
    },
    key=lambda error: f"{error.__module__}.{error.__name__}",
)

ARGUMENTS = {"StorageError": ["https://user:secret@host/it.jpg?secret", "there is no such object"]}
"""Of errors that take more than a message."""

EACH_PACKAGE = pytest.mark.parametrize("package", PUBLIC)


def table(package: str) -> dict[str, str]:
    """The table of ``package/__init__.py``: each public name and the full name of the module that defines it."""
    return {name: f"{package}.{module}" for name, module in importlib.import_module(package)._PUBLIC.items()}


@EACH_PACKAGE
def test_all_and_dir_are_the_public_names(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == PUBLIC[package]
    assert dir(module) == PUBLIC[package]


def test_no_two_packages_give_one_name_to_different_things() -> None:
    names = [name for package in PUBLIC.values() for name in package]
    assert len(set(names)) == len(names)


@EACH_PACKAGE
def test_a_star_import_gives_the_public_names_and_no_others(package: str) -> None:
    """In a fresh process, where nothing has loaded a submodule before."""
    code = f"from {package} import *\nprint(*sorted(name for name in globals() if not name.startswith('__')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == PUBLIC[package]


@EACH_PACKAGE
def test_every_public_name_loads_from_the_module_in_the_table(package: str) -> None:
    for name, module in table(package).items():
        value = getattr(importlib.import_module(package), name)
        defined_in = importlib.import_module(module)
        assert value is (defined_in if module.endswith(f".{name}") else getattr(defined_in, name))


@EACH_PACKAGE
def test_a_name_that_is_not_public_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'absent'"):
        importlib.import_module(package).absent  # noqa: B018 - the access itself is the test


@EACH_PACKAGE
def test_type_checkers_see_the_table(package: str) -> None:
    """Type checkers read the imports under ``if TYPE_CHECKING:``, and do not run the table."""
    tree = ast.parse(Path(str(importlib.import_module(package).__file__)).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    assert len(blocks) == 1
    found = []
    for statement in blocks[0].body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "without 'as NAME' a type checker takes the name as private"
            found.append((alias.name, str(statement.module)))
    # a module that is public itself is imported from its parent: from cnn_train.run import plots
    expected = [
        (name, module.rpartition(".")[0] if module.endswith(f".{name}") else module)
        for name, module in table(package).items()
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", ERRORS, ids=[error.__name__ for error in ERRORS])
def test_an_error_comes_whole_out_of_another_process(kind: type[EdgeCNNError]) -> None:
    """A process pool pickles what its processes raise."""
    error = kind(*ARGUMENTS.get(kind.__name__, ["what happened"]))
    vars(error).update(dict.fromkeys(vars(error), "of the instance"))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))
    assert "secret" not in repr(again)


def imports_of_ours(source: str) -> list[tuple[str, str]]:
    """All that a script imports from the three packages: (module, name); the name is empty for ``import module``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] in PUBLIC]


def is_public(module: str, name: str) -> bool:
    if module in PUBLIC:
        return not name or name in PUBLIC[module]
    package = module.partition(".")[0]
    return module in (value for key, value in table(package).items() if value.endswith(f".{key}"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import cnn_infer", True),
        ("from cnn_infer import Classifier, latency", True),
        ("from cnn_infer.latency import measure", True),
        ("import cnn_train.replay", True),
        ("from cnn_infer import Classifier, Answer", False),
        ("from cnn_infer.classifier import Classifier", False),
        ("import cnn_infer.model", False),
        ("def f():\n    from cnn_train.network.build import build", False),
    ],
)
def test_the_check_of_scripts_tells_public_from_private(source: str, expected: bool) -> None:
    assert all(is_public(*imported) for imported in imports_of_ours(source)) is expected


@pytest.mark.parametrize("folder", ["notebooks", "examples"])
def test_notebooks_and_examples_use_public_names_only(folder: str) -> None:
    scripts = sorted((ROOT / folder).glob("*.py"))
    assert scripts
    private = [
        f"{script.relative_to(ROOT)}: {module} {name}".rstrip()
        for script in scripts
        for module, name in imports_of_ours(script.read_text(encoding="utf-8"))
        if not is_public(module, name)
    ]
    assert not private
