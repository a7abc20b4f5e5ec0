"""ONNX Runtime sessions for graphs that are no model files, such as one with more outputs or a single node."""

from __future__ import annotations

from typing import Any

from cnn_infer.runtime import load_runtime
from cnn_infer.system import machine
from onnx import ModelProto


def session_on_cpu(model: ModelProto, *, optimise: bool = True) -> Any:
    """Return a session of ONNX Runtime that runs a graph on the CPU, without warnings in the log.

    Args:
        model: The graph.
        optimise: Whether ONNX Runtime may fuse and rewrite nodes.

    Raises:
        DeviceError: ONNX Runtime is not installed.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = machine.usable_cpus()  # its own default ignores a container's quota
    if not optimise:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
