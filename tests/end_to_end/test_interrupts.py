"""Ctrl-C while a command imports its modules."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PRESS_CTRL_C = """\
import signal, sys

class PressCtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, PressCtrlC())
"""
"""A sitecustomize module with which a process interrupts itself when it imports ``module``: no race with the test."""


def run_interrupted(
    environment: dict[str, str], folder: Path, module: str, *arguments: str, ignored: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m ARGUMENTS`` with Ctrl-C at the import of ``module``. A shell's background jobs ignore Ctrl-C."""
    (folder / "sitecustomize.py").write_text(PRESS_CTRL_C.format(module=module))
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("name", "argument", "module"),
    [
        ("infer", "--info", "click._compat"),
        ("infer", "--info", "numpy"),
        ("train", "digits", "click._compat"),
        ("train", "digits", "torch"),
        ("export", "run", "click._compat"),
        ("export", "run", "torch"),
        ("export", "run", "onnx"),
    ],
)
def test_ctrl_c_while_modules_load_is_one_line_and_130(
    environment: dict[str, str], tmp_path: Path, name: str, argument: str, module: str
) -> None:
    done = run_interrupted(environment, tmp_path, module, f"cnn_{name}", argument)
    assert (done.stderr, done.returncode, done.stdout) == (f"cnn-{name}: interrupted\n", 130, "")


def test_an_ignored_ctrl_c_does_not_stop_loading(environment: dict[str, str], tmp_path: Path) -> None:
    done = run_interrupted(environment, tmp_path, "click._compat", "cnn_infer", "--version", ignored=True)
    assert done.returncode == 0
    assert done.stdout.startswith("cnn-infer, version ")
