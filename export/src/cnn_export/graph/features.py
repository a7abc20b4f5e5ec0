"""The features of a picture inside a network, by which pictures can be compared with those of training.

They are the means over the cells of the map that the middle convolution reads, and the input of the last layer. Each of
the two is scaled to length 1 (Mueller and Hein, 2025, arXiv:2505.18032), and they stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import onnx
from cnn_infer import console
from cnn_infer.model import INPUT, LOGITS
from cnn_infer.optional_outputs import STRANGENESS
from cnn_infer.runtime import load_runtime
from cnn_infer.system import machine
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cnn_export.errors import GraphError
from cnn_export.graph.passes import attribute_of, constants_of, makers_of

PASSED = frozenset({"Add", "DequantizeLinear", "Identity", "LogSoftmax", "Mul", "QuantizeLinear"})
"""Operators between the last layer and the logits: bias, temperature, and rounding in int8."""

LEAST_LENGTH = 1e-12
"""Features of smaller length are divided by this number."""

BATCH = 128


@dataclass(frozen=True)
class FeatureNodes:
    """The nodes that compute the features.

    Attributes:
        nodes: In their order. They read tensors of the graph.
        constants: Their constants by name.
        name: The tensor with the features, float32 (batch, ``count``).
        count: Number of features.
    """

    nodes: Sequence[NodeProto]
    constants: dict[str, NDArray[np.generic]]
    name: str
    count: int


def last_features(model: ModelProto) -> tuple[str, int]:
    """Return the name of the last layer's input, float32 (batch, number of features), and that number.

    Args:
        model: A graph with the output ``logits``, float or quantized.

    Raises:
        GraphError: the network does not end in a linear layer.
    """
    constants, makers = constants_of(model), makers_of(model)
    node = makers.get(LOGITS)
    while node is not None and node.op_type in PASSED:
        node = next((makers[name] for name in node.input if name in makers and name not in constants), None)
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        kind = "no layer" if node is None else f"{node.op_type} ({node.name})"
        raise GraphError(f"a network with the output {STRANGENESS} must end in a linear layer, but it ends in {kind}")
    maker = makers.get(node.input[1])  # of the weights of a quantized layer
    weights = constants.get(node.input[1] if maker is None or maker.op_type == "Constant" else maker.input[0])
    if weights is None or weights.ndim != 2 or attribute_of(node, "transA", 0):
        raise GraphError(
            f"a network with the output {STRANGENESS} must end in a linear layer with constant weights: "
            f"{node.name} has none"
        )
    return node.input[0], weights.shape[1] if attribute_of(node, "transB", 0) else weights.shape[0]


def middle_map(model: ModelProto) -> tuple[str, int] | None:
    """Return the name of the map that the middle convolution reads, and its number of channels.

    Convolutions that read pictures, or maps of one cell, do not count. None if there is no other.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {info.name: [side.dim_value for side in info.type.tensor_type.shape.dim] for info in graph.value_info}
    read = [node.input[0] for node in graph.node if node.op_type == "Conv"][1:]
    maps = [name for name in read if len(shapes.get(name, ())) == 4 and shapes[name][2:] != [1, 1]]
    return (maps[len(maps) // 2], shapes[maps[len(maps) // 2]][1]) if maps else None


def feature_nodes(model: ModelProto) -> FeatureNodes:
    """Return the nodes that compute the features.

    Args:
        model: A graph with the inputs and outputs of the model file, float or quantized.

    Raises:
        GraphError: the network does not end in a linear layer.
    """
    nodes, names = [], []
    last, count = last_features(model)
    constants: dict[str, NDArray[np.generic]] = {
        f"{STRANGENESS}/axis": np.array([1]),
        f"{STRANGENESS}/least_length": np.array(LEAST_LENGTH, np.float32),
    }
    sources = [last]
    if (found := middle_map(model)) is not None:
        mean, flat = (f"{STRANGENESS}/middle_{what}" for what in ("mean", "flat"))
        nodes.append(helper.make_node("GlobalAveragePool", [found[0]], [mean]))
        nodes.append(helper.make_node("Flatten", [mean], [flat], axis=1))
        sources.append(flat)
        count += found[1]
    for number, source in enumerate(sources):
        length, safe, unit = (f"{STRANGENESS}/{what}_{number}" for what in ("length", "divisor", "unit"))
        nodes.append(helper.make_node("ReduceL2", [source, f"{STRANGENESS}/axis"], [length], keepdims=1))
        nodes.append(helper.make_node("Max", [length, f"{STRANGENESS}/least_length"], [safe]))
        nodes.append(helper.make_node("Div", [source, safe], [unit]))
        names.append(unit)
    name = f"{STRANGENESS}/features"
    nodes.append(helper.make_node("Concat", names, [name], axis=1))
    return FeatureNodes(nodes, constants, name, count)


def features_of(model: ModelProto, pictures: NDArray[np.uint8], what: str | None = None) -> NDArray[np.float32]:
    """Compute the features of pictures, float32 (n, features), in ONNX Runtime on the CPU.

    Args:
        model: A graph with the inputs and outputs of the model file, float or quantized.
        pictures: uint8 (n, height, width, channels).
        what: Title of a progress bar; None for no bar.

    Raises:
        GraphError: the network does not end in a linear layer.
        DeviceError: ONNX Runtime is not installed.
    """
    found = feature_nodes(model)
    extended = ModelProto()
    extended.CopyFrom(model)
    extended.graph.node.extend(found.nodes)
    extended.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.constants.items())
    extended.graph.output.append(helper.make_tensor_value_info(found.name, TensorProto.FLOAT, ["batch", found.count]))
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = machine.usable_cpus()  # its own default ignores a container's quota
    session = runtime.InferenceSession(extended.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts = []
    with console.progress(what, len(pictures)) if what else nullcontext(lambda _: None) as advance:
        for start in range(0, len(pictures), BATCH):
            batch = np.ascontiguousarray(pictures[start : start + BATCH])
            parts.append(session.run([found.name], {INPUT: batch})[0])
            advance(len(batch))
    return np.concatenate(parts)
