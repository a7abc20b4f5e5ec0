"""A start loads only what the model and the options need: each module costs milliseconds of each short run."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import cnn_infer
import pytest
from cnn_infer import Classifier, InputError
from PIL import Image

MODEL = Path(__file__).parent / "models" / "rgb.onnx"
SCRIPT = """\
import sys
from cnn_infer.__main__ import main
try:
    main()
finally:
    names = ("guarantee", "strangers", "calibration", "metrics")
    print([name for name in names if f"cnn_infer.{name}" in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("path", "options", "loaded"),
    [
        ("picture.png", [], []),
        ("picture.png", ["--threshold", "0.5"], ["guarantee", "metrics"]),
        ("red", [], ["calibration", "metrics"]),
    ],
)
def test_thresholds_and_metrics_are_loaded_when_they_are_needed(
    path: str, options: list[str], loaded: list[str], tmp_path: Path
) -> None:
    (tmp_path / "red").mkdir()
    for name in ("picture.png", "red/picture.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    command = [sys.executable, "-c", SCRIPT, path, "--model", str(MODEL), *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == str(loaded)


def test_a_copy_that_pip_did_not_install_knows_its_version(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for found in [*Path(sysconfig.get_path("purelib")).iterdir(), Path(cnn_infer.__file__).parent]:
        if not found.name.startswith("cnn_") or found.name == "cnn_infer":
            (tmp_path / "site" / found.name).symlink_to(found)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-S", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = "import importlib.metadata as m; print([d.name for d in m.distributions() if d.name.startswith('cnn')])"
    assert run("-c", found) == "[]\n"
    assert run("-m", "cnn_infer", "--version").endswith(f" {cnn_infer.__version__}\n")
    run("-m", "cnn_infer", "--verify", "--model", str(MODEL), "--certificate", "box.json")
    assert json.loads((tmp_path / "box.json").read_text())["passed"]
    worker = "from cnn_infer.command import on_cluster; from cnn_infer.cluster import worker; print(worker.__version__)"
    assert run("-c", worker) == f"{cnn_infer.__version__}\n"


@pytest.mark.parametrize("threshold", ["", "sure", -0.1, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match="the threshold must be a probability from 0 to 1, or certified, not "):
        Classifier(MODEL, threshold=threshold)
