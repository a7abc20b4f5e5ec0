"""Ctrl-C while a command still loads its modules."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["click._compat", "numpy"])
@pytest.mark.parametrize("name", ["infer", "train", "export"])
def test_ctrl_c_while_modules_load_is_one_line_and_130(environment: dict[str, str], name: str, module: str) -> None:
    """Python itself says on standard error when a module is loaded; others are loaded after each of these."""
    package = f"cnn_{name}"
    arguments = {"infer": "--info", "train": "digits", "export": "run"}
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", package, arguments[name]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rpartition("|")[2].strip() == module:
            break
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert lines == [f"cnn-{name}: interrupted"]
    assert process.returncode == 130
    assert said == ""


def test_loading_goes_on_where_ctrl_c_is_ignored(environment: dict[str, str]) -> None:
    """As of a shell's background jobs."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "cnn_infer", "--version"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rpartition("|")[2].strip() == "numpy":
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith("cnn-infer, version ")
