"""The features of a picture inside a network, by which pictures can be compared with those of training.

They are the means over the cells of two feature maps. Take the convolutions that come after another convolution: the
maps are the inputs of the first and of the middle one of these. Each of the two is scaled to length 1 (Mueller and
Hein, 2025, "Mahalanobis++", arXiv:2505.18032), and they stand side by side. The input of the last layer, the usual
choice, separates worse (``benchmarks/strangers.py``): there a network has learned to be the same for all pictures of a
class, and it often is so for strangers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from cnn_infer import console
from cnn_infer.model import INPUT
from cnn_infer.optional_outputs import STRANGENESS
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cnn_export.batches import batches
from cnn_export.errors import GraphError
from cnn_export.graph.first_layer import OWN_LAYER
from cnn_export.graph.lookup import shapes_of
from cnn_export.graph.session import session_on_cpu

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


def maps_of(model: ModelProto) -> list[tuple[str, int]]:
    """Return the names and channels of the feature maps of a graph.

    Take the convolutions that come after another convolution. Those whose input has a single cell do not count, nor
    does the layer :data:`OWN_LAYER`. The maps are the inputs of the first and of the middle one of these: one map if
    the two are the same.

    Args:
        model: A graph with the inputs and outputs of the model file, float or quantized.

    Raises:
        GraphError: there is no such convolution.
    """
    shapes = shapes_of(model)
    computed: set[str] = set()  # what a convolution computed, and what follows from it
    maps = []
    for node in model.graph.node:
        follows = not computed.isdisjoint(node.input)
        # nodes of optional outputs have a "/" in their names
        is_convolution = node.op_type == "Conv" and node.name != OWN_LAYER and "/" not in node.name
        if is_convolution and follows:
            shape = shapes.get(node.input[0], [])
            if len(shape) == 4 and isinstance(shape[1], int) and shape[2:] != [1, 1]:
                maps.append((node.input[0], shape[1]))
        if is_convolution or follows:
            computed.update(node.output)
    if not maps:
        raise GraphError(
            "strangers (--strangers) needs a network with two convolutions or more, one after the other: leave it out"
        )
    return list(dict.fromkeys((maps[0], maps[len(maps) // 2])))


def feature_nodes(model: ModelProto) -> FeatureNodes:
    """Return the nodes that compute the features.

    Args:
        model: A graph with the inputs and outputs of the model file, float or quantized.

    Raises:
        GraphError: no convolution reads what another one computed.
    """
    nodes, names = [], []
    axis, least = f"{STRANGENESS}/axis", f"{STRANGENESS}/least_length"
    maps = maps_of(model)
    for number, (source, _) in enumerate(maps):
        words = ("mean", "flat", "length", "divisor", "unit")
        mean, flat, length, divisor, unit = (f"{STRANGENESS}/{word}_{number}" for word in words)
        nodes += [
            helper.make_node("GlobalAveragePool", [source], [mean]),
            helper.make_node("Flatten", [mean], [flat], axis=1),
            helper.make_node("ReduceL2", [flat, axis], [length], keepdims=1),
            helper.make_node("Max", [length, least], [divisor]),
            helper.make_node("Div", [flat, divisor], [unit]),
        ]
        names.append(unit)
    name = f"{STRANGENESS}/features"
    nodes.append(helper.make_node("Concat", names, [name], axis=1))
    constants = {axis: np.array([1]), least: np.array(LEAST_LENGTH, np.float32)}
    return FeatureNodes(nodes, constants, name, sum(channels for _, channels in maps))


def features_of(model: ModelProto, pictures: NDArray[np.uint8], what: str | None = None) -> NDArray[np.float32]:
    """Compute the features of pictures, float32 (n, features), in ONNX Runtime on the CPU.

    Args:
        model: A graph with the inputs and outputs of the model file, float or quantized.
        pictures: uint8 (n, height, width, channels).
        what: Title of a progress bar; None for no bar.

    Raises:
        GraphError: no convolution reads what another one computed.
        DeviceError: ONNX Runtime is not installed.
    """
    found = feature_nodes(model)
    extended = ModelProto()
    extended.CopyFrom(model)
    extended.graph.node.extend(found.nodes)
    extended.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.constants.items())
    extended.graph.output.append(helper.make_tensor_value_info(found.name, TensorProto.FLOAT, ["batch", found.count]))
    session = session_on_cpu(extended)
    parts = []
    with console.progress(what, len(pictures)) if what else nullcontext(lambda _: None) as advance:
        for batch in batches(pictures, BATCH):
            parts.append(session.run([found.name], {INPUT: batch})[0])
            advance(len(batch))
    return np.concatenate(parts)
