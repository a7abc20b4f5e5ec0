"""The three distributions have one version, and cnn-infer imports no training library."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import cnn_export
import cnn_infer
import cnn_train
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "onnx", "onnxscript", "sklearn", "scipy", "matplotlib", "safetensors", "pandas"}


@pytest.mark.parametrize(
    "code",
    [
        "import cnn_infer",
        "import cnn_infer.command.cli",
        "from cnn_infer import Classifier, evaluate, verify, find_pictures",
        "import pkgutil, importlib, cnn_infer\n"
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(cnn_infer.__path__, 'cnn_infer.')\n"
        " if not m.name.endswith('__main__')]",
    ],
)
def test_importing_cnn_infer_imports_no_training_library(code: str) -> None:
    report = "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cnn_infer" in loaded
    assert not loaded & HEAVY


def test_the_distributions_have_one_version() -> None:
    versions = {name: metadata.version(name) for name in ("cnn-infer", "cnn-train", "cnn-export")}
    assert len(set(versions.values())) == 1, versions
    assert {module.__version__ for module in (cnn_infer, cnn_train, cnn_export)} == set(versions.values())


@pytest.mark.parametrize("part", ["infer", "train", "export"])
def test_siblings_are_pinned_to_the_same_version(part: str) -> None:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    assert project["version"] == metadata.version(project["name"])
    siblings = {entry for entry in project["dependencies"] if entry.startswith("cnn-")}
    expected = {
        "infer": set(),
        "train": {"cnn-infer==VERSION"},
        "export": {"cnn-infer==VERSION", "cnn-train==VERSION"},
    }[part]
    assert siblings == {entry.replace("VERSION", project["version"]) for entry in expected}
