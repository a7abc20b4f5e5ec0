"""Ask ONNX Runtime in a process of its own: whoever asks survives a build that crashes or hangs on import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from cnn_infer.runtime import TELEMETRY

SECONDS = 60
"""Longest time for one answer. TensorRT may build an engine longer than that; then the answer is an error that
names the time."""

RUNTIME = """\
import json, sys, onnxruntime
print("\\n" + json.dumps({"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers(),
    "file": onnxruntime.__file__}))
"""

DEVICES = """\
import json, sys, onnxruntime
from cnn_infer.providers.plugins import plugin_devices
print("\\n" + json.dumps([str(found.device.type.name) for found in plugin_devices(onnxruntime, sys.argv[1])]))
"""

MODEL = """\
import json, sys
from cnn_infer import open_model
model = open_model(sys.argv[1], device=sys.argv[2], device_options=json.loads(sys.argv[3]))
print("\\n" + json.dumps({"provider": model.provider, "chosen": model.chosen, "nodes": dict(model.nodes)}))
"""


@dataclass(frozen=True)
class Answer:
    """What a process answered: a value, or one line that says why there is none."""

    value: Any = None
    error: str = ""


def ask(code: str, *arguments: str) -> Answer:
    """Run Python code in a process; return the JSON that it prints, or the last line of its error.

    Libraries may print text before and after it, also without a line break. The last line with an object or a list
    counts.
    """
    environment = {TELEMETRY: "1", **os.environ}
    # -P: Python must not import a file of the working directory that has the name of one of these modules
    command = [sys.executable, "-P", "-c", code, *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(error=f"no answer after {SECONDS} s")
    if done.returncode < 0:
        return Answer(error=f"the process was ended by {_signal(-done.returncode)}")
    if done.returncode:
        errors = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Answer(error=errors[-1])
    lines = done.stdout.strip().splitlines()
    values = (_json(line) for line in reversed(lines))
    value = next((value for value in values if isinstance(value, (dict, list))), None)
    if value is None:
        return Answer(error=f"the process gave no answer but {lines[-1] if lines else 'nothing'}")
    return Answer(value)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
