"""The output ``evidence``: the part of each cell of the last feature map in each logit.

A network that ends in a global maximum or mean and one linear layer has logits that are sums over cells. With a mean
this is the class activation map (Zhou et al., 2016, "Learning Deep Features for Discriminative Localization",
arXiv:1512.04150). With a maximum, weight times maximum of a channel goes to the cell that has the maximum, and in equal
parts to the cells that share it. Both are exact: for each class, the sum over the cells plus the bias is the logit. No
gradient and no approximation is involved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from cnn_infer.model import LOGITS
from cnn_infer.optional_outputs import EVIDENCE
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import attribute_of, constants_of, makers_of, shape_along, shapes_of
from cnn_export.graph.outputs import add_output

FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze", "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear"})
"""Operators between the pooling and the last layer. Those of int8 round; the cells share what that changes."""

MAXIMA = frozenset({"GlobalMaxPool", "MaxPool", "ReduceMax"})
MEANS = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


@dataclass(frozen=True)
class Head:
    """The end of a network whose logits are sums over cells.

    Attributes:
        features: Name of the last feature map, float32 (batch, channels, rows, columns).
        pooled: Name of the last layer's input, float32 (batch, channels).
        maximum: Whether the pooling is the maximum; else it is the mean.
        cells: Number of rows and columns.
        weight: Name of the last layer's weights, float32.
        transposed: Whether the weights are (classes, channels) rather than (channels, classes).
        factor: What the products of weights and features are multiplied with.
        bias: float64 (classes,), the part of the logits that no cell has.
    """

    features: str
    pooled: str
    maximum: bool
    cells: tuple[int, int]
    weight: str
    transposed: bool
    factor: float
    bias: NDArray[np.float64]


def head_of(model: ModelProto) -> Head:
    """Find the global pooling and the linear layer at the end of a graph, float or quantized.

    Raises:
        GraphError: the graph does not end so; the message tells where it differs.
    """
    values, makers, shapes = _values_of(model), makers_of(model), shapes_of(model)
    classes = shapes[LOGITS][1]
    layer, factor, bias = makers[LOGITS], 1.0, np.zeros(classes)
    while layer.op_type in ("Add", "Identity", "Mul"):
        own = [values[name].astype(np.float64) for name in layer.input if name in values]
        others = [name for name in layer.input if name not in values]
        if len(others) != 1 or others[0] not in makers or any(value.size not in (1, classes) for value in own):
            raise _refused(layer, "at its end")
        if layer.op_type == "Add":
            bias = bias + factor * own[0].ravel()
        elif layer.op_type == "Mul":
            if own[0].size != 1:
                raise _refused(layer, "at its end")
            factor *= float(own[0].ravel()[0])
        layer = makers[others[0]]
    if layer.op_type not in ("Gemm", "MatMul") or layer.input[1] not in values or attribute_of(layer, "transA", 0):
        raise _refused(layer, "at its end")
    if layer.op_type == "Gemm":
        if len(layer.input) > 2:
            if layer.input[2] not in values:
                raise _refused(layer, "at its end")
            bias = bias + factor * attribute_of(layer, "beta", 1.0) * values[layer.input[2]].astype(np.float64).ravel()
        factor *= attribute_of(layer, "alpha", 1.0)
    pool = makers.get(layer.input[0])
    while pool is not None and pool.op_type in FLATTENING:
        pool = makers.get(pool.input[0])
    if pool is None or pool.op_type not in MAXIMA | MEANS:
        raise _refused(pool, "before its last layer")
    features = pool.input[0]
    shape = shapes.get(features, [])
    if len(shape) != 4 or not all(isinstance(side, int) and side for side in shape[1:]):
        found = f"the shape {shape}" if shape else "no known shape"
        raise GraphError(f"evidence (--evidence) needs a feature map of fixed size: {features} has {found}")
    channels, *cells = shape[1:]
    transposed = bool(attribute_of(layer, "transB", 0))
    wanted = (classes, channels) if transposed else (channels, classes)
    if not _is_global(pool, values, cells) or values[layer.input[1]].shape != wanted:
        raise _refused(pool, "before its last layer", ", which does not cover the whole feature map")
    return Head(
        features=features,
        pooled=layer.input[0],
        maximum=pool.op_type in MAXIMA,
        cells=(cells[0], cells[1]),
        weight=layer.input[1],
        transposed=transposed,
        factor=factor,
        bias=bias,
    )


def add_evidence(model: ModelProto, head: Head) -> ModelProto:
    """Return a copy of a finished graph, float or quantized, with the output ``evidence``.

    It is float32 (batch, classes, rows, columns). In a quantized graph it is computed from the dequantized features and
    the dequantized weights, which the int8 layer multiplies with. An int8 mean is rounded; the cells of a channel share
    in equal parts what this changes, at most half a step of the mean's scale for a channel.

    Args:
        model: The graph.
        head: From :func:`head_of`.

    Raises:
        GraphError: the graph has an output that comes after ``evidence`` in the order of the contract.
    """
    makers, constants, nodes = makers_of(model), _Constants(), []

    def compute(operator: str, inputs: list[str], result: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [result], **attributes))
        return result

    def own(name: str, result: str) -> str:
        """A tensor's own DequantizeLinear, so that ONNX Runtime merges the first one into its layer as before."""
        maker = makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return name
        nodes.append(NodeProto())
        nodes[-1].CopyFrom(maker)
        nodes[-1].output[0] = result
        return result

    axes = constants.add("axes", np.array([2, 3], np.int64))
    features = own(head.features, f"{EVIDENCE}/features")
    pooled = compute("Unsqueeze", [own(head.pooled, f"{EVIDENCE}/vector"), axes], f"{EVIDENCE}/pooled")
    if head.maximum:
        highest = compute("ReduceMax", [features, axes], f"{EVIDENCE}/maximum", keepdims=1)
        equal = compute("Equal", [features, highest], f"{EVIDENCE}/equal")
        holders = compute("Cast", [equal], f"{EVIDENCE}/holders", to=onnx.TensorProto.FLOAT)
        count = compute("ReduceSum", [holders, axes], f"{EVIDENCE}/count", keepdims=1)
        each = compute("Div", [pooled, count], f"{EVIDENCE}/each")
        shares = compute("Mul", [holders, each], f"{EVIDENCE}/shares")
    else:
        mean = compute("ReduceMean", [features, axes], f"{EVIDENCE}/mean", keepdims=1)
        rounding = compute("Sub", [pooled, mean], f"{EVIDENCE}/rounding")
        sums = compute("Add", [features, rounding], f"{EVIDENCE}/sums")
        cells = constants.add("cells", np.array(head.cells[0] * head.cells[1], np.float32))
        shares = compute("Div", [sums, cells], f"{EVIDENCE}/shares")
    weight = own(head.weight, f"{EVIDENCE}/weight")
    if not head.transposed:
        weight = compute("Transpose", [weight], f"{EVIDENCE}/rows", perm=[1, 0])
    if head.factor != 1:
        factor = constants.add("factor", np.array(head.factor, np.float32))
        weight = compute("Mul", [weight, factor], f"{EVIDENCE}/scaled")
    kernel = compute("Unsqueeze", [weight, axes], f"{EVIDENCE}/kernel")
    compute("Conv", [shares, kernel], EVIDENCE)
    return add_output(model, EVIDENCE, [len(head.bias), *head.cells], nodes, constants)


class _Constants(dict[str, NDArray[np.generic]]):
    """The constants of the output, by their names in the graph."""

    def add(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a constant and return its name."""
        self[f"{EVIDENCE}/{name}"] = value
        return f"{EVIDENCE}/{name}"


def _values_of(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Return the constants of a graph by name, also those that a DequantizeLinear computes from constants."""
    values: dict[str, NDArray[Any]] = dict(constants_of(model))
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and all(name in values for name in node.input):
            levels, scale = values[node.input[0]].astype(np.float32), values[node.input[1]]
            zero = values[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.zeros(1, np.float32)
            spread = shape_along(attribute_of(node, "axis", 1), levels.ndim)
            values[node.output[0]] = (levels - zero.reshape(spread)) * scale.reshape(spread)
    return values


def _is_global(pool: NodeProto, values: Mapping[str, NDArray[Any]], cells: list[int]) -> bool:
    """Whether a pooling is over all cells."""
    if pool.op_type.startswith("Global"):
        return True
    if pool.op_type.startswith("Reduce"):
        axes = values.get(pool.input[1]) if len(pool.input) > 1 else None
        return axes is not None and sorted(int(axis) % 4 for axis in axes.ravel()) == [2, 3]
    plain = not any(attribute_of(pool, "pads", [0])) and set(attribute_of(pool, "dilations", [1])) == {1}
    return plain and list(attribute_of(pool, "kernel_shape", [])) == cells


def _refused(node: NodeProto | None, place: str, addition: str = "") -> GraphError:
    found = "the picture" if node is None else f"{node.op_type} ({node.name or node.output[0]})"
    return GraphError(
        "evidence (--evidence) needs a network that ends in a global maximum or mean, and then one linear layer: this "
        f"one has {found} {place}{addition}"
    )
