"""OpenVINO's plugin for real: rows and proof of an export beside the CPU provider, and which nodes it runs.

The plugin accepts processors of Intel only. Elsewhere QEMU emulates one.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cnn_infer.system import machine

QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
INTEL = "Intel" in machine.cpu_name()
pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("onnxruntime_ep_openvino"), reason="needs onnxruntime-ep-openvino"),
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the plugin is for x86"),
    pytest.mark.skipif(not (INTEL or QEMU), reason="needs an Intel processor, or QEMU (apt install qemu-user-static)"),
]

SCRIPT = """
import json, sys
import numpy as np
from cnn_infer import Classifier, DeviceError, open_model, verify
model, other = sys.argv[1:]
pictures = [*np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), np.uint8)]
cpu = Classifier(model, device="cpu")
found = {}
for binding in ("off", "on"):
    device = Classifier(model, device="openvino", device_options={"io_binding": binding})
    differences = [
        float(abs(device.probabilities(batch) - cpu.probabilities(batch)).max())
        for batch in (np.stack(pictures[:8]), np.stack(pictures[8:16]), np.stack(pictures[16:]))
    ]
    answers = [each.predict_many(pictures, batch_size=4, workers=2) for each in (cpu, device)]
    labels = [[answer.label for answer in each] for each in answers]
    found[binding] = [max(differences), labels[0] == labels[1], device.model.bound is not None]
found["verified"] = all(replay.passed for replay in verify(device))
found["nodes"], found["provider"] = dict(device.model.nodes), device.provider
try:
    open_model(model, device="openvino", device_options={"device_type": "GPU"})
except DeviceError as error:
    found["gpu"] = str(error)
if other:
    opened = open_model(other, device="openvino")
    found["mixed"] = [opened.chosen, dict(opened.nodes)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def mixed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with a node that OpenVINO does not have; empty without the package onnx."""
    if not importlib.util.find_spec("onnx"):
        return ""
    import onnx

    model = onnx.load(models / "rgb.onnx")
    linear = next(node for node in model.graph.node if "logits" in node.output)
    linear.output[0] = "raw"
    numbers = {"offset": [0.0] * 4, "scale": [1.0] * 4}
    scaler = onnx.helper.make_node("Scaler", ["raw"], ["logits"], domain="ai.onnx.ml", **numbers)
    model.graph.node.insert([*model.graph.node].index(linear) + 1, scaler)
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    path = tmp_path_factory.mktemp("mixed") / "mixed.onnx"
    onnx.save(model, path)
    return str(path)


@pytest.fixture(scope="module")
def found(models: Path, mixed: str) -> dict[str, Any]:
    emulator = [] if INTEL else [str(QEMU), "-cpu", "Haswell"]
    command = [*emulator, sys.executable, "-c", SCRIPT, str(models / "rgb.onnx"), mixed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_openvino_runs_all_nodes_and_gives_the_same_rows(found: dict[str, Any]) -> None:
    assert found["provider"] == "OpenVINOExecutionProvider"
    assert [*found["nodes"]] == ["OpenVINOExecutionProvider"]
    difference, same_labels, bound = found["off"]
    assert difference < 1e-5
    assert same_labels
    assert not bound
    assert found["verified"]


def test_bound_memory_holds_the_pixels_of_each_batch(found: dict[str, Any]) -> None:
    difference, same_labels, bound = found["on"]
    assert bound
    assert difference < 1e-5
    assert same_labels


def test_an_absent_kind_of_device_is_named(found: dict[str, Any]) -> None:
    if "gpu" not in found:
        pytest.skip("this machine has a GPU of Intel")
    assert "has no device_type GPU on this machine: it has CPU" in found["gpu"]


def test_nodes_on_the_cpu_are_counted(found: dict[str, Any]) -> None:
    if "mixed" not in found:
        pytest.skip("needs the package onnx")
    chosen, nodes = found["mixed"]
    assert nodes["CPUExecutionProvider"] == 1
    total = sum(nodes.values())
    assert chosen == f"asked for; the CPU runs 1 of the {total} nodes, which OpenVINOExecutionProvider does not have"
