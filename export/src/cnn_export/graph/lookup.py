"""Lookups in ONNX graphs: constants, attributes and shapes, and which nodes make and read a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper


def constants_of(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Return the constants of a graph (initializers and Constant nodes) by tensor name."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def makers_of(model: ModelProto) -> dict[str, NodeProto]:
    """Return the node that computes each tensor, by tensor name."""
    return {name: node for node in model.graph.node for name in node.output}


def consumers_of(model: ModelProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each tensor, by tensor name."""
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def attribute_of(node: NodeProto, name: str, default: Any) -> Any:
    """Return the attribute ``name`` of a node, or ``default`` if the node does not have it."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def shape_along(axis: int, rank: int) -> list[int]:
    """Return the shape in which values along one axis of a tensor broadcast against it: -1 there, 1 elsewhere.

    Args:
        axis: The axis; a negative one counts from the end.
        rank: Number of dimensions of the tensor.
    """
    return [-1 if index == axis % rank else 1 for index in range(rank)]


def shapes_of(model: ModelProto) -> dict[str, list[Any]]:
    """Return the inferred shape of each tensor by name: a number for each side, or its name if it depends on the batch.

    The name of a side may be empty. A tensor whose shape is not known is left out.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    found: dict[str, list[Any]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            found[info.name] = [side.dim_value or side.dim_param for side in info.type.tensor_type.shape.dim]
    return found
