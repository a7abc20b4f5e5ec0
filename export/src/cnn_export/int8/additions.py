"""The additions of two int8 tensors in a quantized graph, and scales for which every processor computes the same.

:mod:`cnn_export.int8.rounding` says how the processors differ. A range that is wider by some hundred thousandths moves
all sums away from the middle between two levels, so a few tries are enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from cnn_export.graph.lookup import constants_of, consumers_of, makers_of, shapes_of
from cnn_export.int8.pairs import LAYERS
from cnn_export.int8.rounding import Unsigned, agreeing

Constants = Mapping[str, NDArray[Any]]

PATTERN = ["DequantizeLinear", "DequantizeLinear", "QuantizeLinear"]
"""The operators before and after an addition that ONNX Runtime replaces by an int8 node."""


@dataclass(frozen=True)
class Addition:
    """A node that adds two unsigned int8 tensors of the same shape.

    Attributes:
        name: Name of the node.
        first: Levels of its first input.
        second: Levels of its second input.
        result: Levels of its output.
        scale: Name of the initializer with the scale of its output.
    """

    name: str
    first: Unsigned
    second: Unsigned
    result: Unsigned
    scale: str


def additions(model: ModelProto, constants: Constants) -> Iterator[Addition]:
    """Yield the int8 additions in the order of the graph.

    Args:
        model: A quantized graph or file.
        constants: Its constants; they are read when an addition is reached, so they may change in between.
    """
    makers, readers, shapes = makers_of(model), consumers_of(model), shapes_of(model)
    for node in model.graph.node:
        left, right = (makers.get(name) for name in node.input) if node.op_type == "Add" else (None, None)
        after = readers.get(node.output[0], [])
        if left is None or right is None or [end.op_type for end in (left, right, *after)] != PATTERN:
            continue
        first, second, result = (_levels(end, constants) for end in (left, right, after[0]))
        shape = shapes.get(node.input[0])
        if first and second and result and shape is not None and shape == shapes.get(node.input[1]):
            yield Addition(node.name, first, second, result, after[0].input[1])


def let_additions_agree(quantized: ModelProto, model: ModelProto) -> int:
    """Widen the ranges of the outputs of int8 additions until every processor rounds their sums alike.

    Biases of the layers that read such an output follow its scale. An addition for which no scale is found keeps its
    own.

    Args:
        quantized: Result of ONNX Runtime's quantizer for ``model``; nodes have the same names. It is changed in place.
        model: Float graph.

    Returns:
        The number of changed scales.
    """
    constants: dict[str, NDArray[Any]] = dict(constants_of(quantized))
    changed: dict[str, NDArray[Any]] = {}
    for addition in additions(quantized, constants):
        # the output of an earlier addition can be an input of this one
        found = agreeing(addition.first, addition.second, addition.result)
        if found is not None and found != addition.result:
            scale = np.full_like(constants[addition.scale], found.scale)
            constants[addition.scale] = changed[addition.scale] = scale
    biases = dict(_biases(quantized, model, constants, set(changed)))
    for tensor in quantized.graph.initializer:
        values = changed.get(tensor.name, biases.get(tensor.name))
        if values is not None:
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return len(changed)


def _biases(
    quantized: ModelProto, model: ModelProto, constants: Constants, scales: set[str]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the names and new values of the biases and their scales, in layers whose input has one of the scales."""
    exact, makers = constants_of(model), makers_of(quantized)
    layers = {node.name: node for node in model.graph.node if node.op_type in LAYERS and len(node.input) > 2}
    for node in quantized.graph.node:
        sources = [makers.get(name) for name in node.input]
        if node.name not in layers or any(one is None or one.op_type != "DequantizeLinear" for one in sources):
            continue
        values, weights, bias = (one for one in sources if one is not None)
        if values.input[1] in scales:
            step = constants[values.input[1]] * constants[weights.input[1]]
            wanted = exact[layers[node.name].input[2]].astype(np.float64)
            levels = np.rint(wanted / step).astype(np.int32)
            for name, new in ((bias.input[0], levels), (bias.input[1], step.astype(np.float32))):
                yield name, new.reshape(constants[name].shape)


def _levels(node: NodeProto, constants: Constants) -> Unsigned | None:
    """The levels of a QuantizeLinear or DequantizeLinear of a computed tensor; None unless they are unsigned."""
    scale, zero_point = (constants.get(name) for name in node.input[1:3]) if len(node.input) > 2 else (None, None)
    if scale is None or zero_point is None or node.input[0] in constants:
        return None
    if scale.size != 1 or zero_point.dtype != np.uint8:
        return None
    return Unsigned(np.float32(scale.item()), int(zero_point.item()))
