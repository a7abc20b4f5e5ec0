"""Rewrites of ONNX graphs. Each changes the model in place."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import attribute_of, constants_of, consumers_of, makers_of

MOVES = frozenset({"Concat", "DepthToSpace", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Transpose"})
"""Operators that move values without computing with them."""


def fold_batch_norm(model: ModelProto) -> None:
    """Fold each BatchNormalization into the convolution before it.

    Only where the parameters are constant and the BatchNormalization is the only reader of the convolution.
    """
    constants = constants_of(model)
    consumers = consumers_of(model)
    producers = makers_of(model)
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        conv = producers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or len(consumers[norm.input[0]]) != 1:
            continue
        if not all(name in constants for name in (*norm.input[1:5], *conv.input[1:])):
            continue
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:5])
        factor = gamma / np.sqrt(variance + attribute_of(norm, "epsilon", 1e-5))
        weight = constants[conv.input[1]].astype(np.float64)
        bias = constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
        name = conv.output[0]
        _add_constant(model, f"{name}_weight", weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        _add_constant(model, f"{name}_bias", (bias - mean) * factor + beta)
        conv.input[1:] = [f"{name}_weight", f"{name}_bias"]
        conv.output[0] = norm.output[0]
        model.graph.node.remove(norm)


def replace_global_means(model: ModelProto) -> None:
    """Replace each ReduceMean over height and width by GlobalAveragePool, which ONNX Runtime can quantize.

    Only where the axes are constant.
    """
    constants = constants_of(model)
    for position, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        if sorted(int(axis) % 4 for axis in constants[node.input[1]].ravel()) != [2, 3]:
            continue
        keeps = attribute_of(node, "keepdims", 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        nodes = [helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=f"{node.name}_pool")]
        if not keeps:
            nodes.append(helper.make_node("Flatten", [pooled], [node.output[0]], name=f"{node.name}_flatten", axis=1))
        model.graph.node.remove(node)
        for offset, new in enumerate(nodes):
            model.graph.node.insert(position + offset, new)


def scale_logits(model: ModelProto, output: str, factor: float) -> None:
    """Multiply the tensor ``output`` by a factor.

    The factor is folded into the weights if a Gemm with constant weights computes the tensor. Otherwise a Mul node is
    added.

    Raises:
        GraphError: No node computes ``output``.
    """
    constants = constants_of(model)
    maker = makers_of(model).get(output)
    if maker is None:
        raise GraphError(f"the exported graph has no {output}")
    if maker.op_type == "Gemm" and all(name in constants for name in maker.input[1:]):
        for index, name in enumerate(maker.input[1:], start=1):
            scaled = f"{output}_{'weight' if index == 1 else 'bias'}"
            _add_constant(model, scaled, constants[name].astype(np.float64) * factor)
            maker.input[index] = scaled
        return
    raw = f"{output}_unscaled"
    maker.output[list(maker.output).index(output)] = raw
    _add_constant(model, f"{output}_factor", np.array(factor))
    model.graph.node.append(helper.make_node("Mul", [raw, f"{output}_factor"], [output], name=f"{output}_scale"))


def drop_bias_zero_points(model: ModelProto) -> None:
    """Remove the zero point of int32 biases, which is always 0: some runtimes reject a DequantizeLinear with it."""
    constants = constants_of(model)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3:
            values, zero = constants.get(node.input[0]), constants.get(node.input[2])
            if values is not None and zero is not None and values.dtype == np.int32 and not zero.any():
                del node.input[2]


def keep_float_layers(model: ModelProto) -> None:
    """Let the convolutions with fp32 weights in a quantized graph run in fp32.

    ONNX Runtime quantizes such weights itself, to int8 per tensor, if the layer stands between a DequantizeLinear with
    one scale and a QuantizeLinear (``onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc``). So each
    of these layers gets an input of its own, with the same scale once per channel.
    """
    constants, makers = constants_of(model), makers_of(model)
    for position, node in reversed(list(enumerate(model.graph.node))):
        weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
        source = makers.get(node.input[0]) if weight is not None else None
        if weight is None or source is None or source.op_type != "DequantizeLinear":
            continue
        channels = weight.shape[1] * attribute_of(node, "group", 1)
        names = [f"{node.name}_input_{what}" for what in ("scale", "zero_point")]
        for name, single in zip(names, source.input[1:], strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.full(channels, constants[single]), name))
        own = helper.make_node(
            "DequantizeLinear",
            [source.input[0], *names],
            [f"{node.name}_input"],
            name=f"{node.name}_dequantize",
            axis=1,
        )
        node.input[0] = own.output[0]
        model.graph.node.insert(position, own)


def pixel_of(filler: NDArray[np.generic] | None, spec: Spec) -> int | None:
    """Return the pixel value whose normalised value a Pad fills in; None if there is none.

    Args:
        filler: One value, float32, or None for 0.
        spec: Specification of the model: its normalisation.
    """
    exact = (0.0 if filler is None else float(filler.ravel()[0])) / spec.scale + spec.zero_point
    pixel = round(exact)
    return pixel if 0 <= pixel <= 255 and abs(exact - pixel) < 1e-3 else None


def leading_moves(model: ModelProto, start: str, spec: Spec) -> tuple[list[NodeProto], str]:
    """Find the nodes after ``start`` that only move values; they can run on raw pixels before the normalisation.

    Args:
        model: Float graph, or its quantized form.
        start: Tensor of normalised pictures.
        spec: Specification of the model: its normalisation.

    Returns:
        The nodes, and the tensor with their result. If they have several results, no nodes and ``start``. A Pad
        with a value that no pixel has is not such a node.
    """
    constants = constants_of(model)
    moved, nodes = {start}, []
    for node in model.graph.node:
        values = list(node.input) if node.op_type == "Concat" else list(node.input[:1])
        if node.op_type not in MOVES or not values or not moved.issuperset(values):
            continue
        filler = constants.get(node.input[2]) if node.op_type == "Pad" and len(node.input) > 2 else None
        if node.op_type == "Pad" and pixel_of(filler, spec) is None:
            continue
        moved.update(node.output)
        nodes.append(node)
    ends = {name for node in model.graph.node if not any(node is one for one in nodes) for name in node.input} & moved
    return (nodes, ends.pop()) if len(ends) == 1 else ([], start)


def strip_unused(model: ModelProto) -> None:
    """Remove the nodes and initializers that no output needs, and the opset domains that no node belongs to.

    ONNX Runtime runs every node of a graph, also one whose output is never read.
    """
    used = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):  # readers come after what they read
        if used.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            used.update(_read_by(node))
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    nodes = [inner for node in model.graph.node for inner in _with_inner(node)]
    domains = {"" if node.domain == "ai.onnx" else node.domain for node in nodes} | {""}
    for entry in [entry for entry in model.opset_import if entry.domain not in domains]:
        model.opset_import.remove(entry)


def _read_by(node: NodeProto) -> set[str]:
    """The tensors that a node reads, also in the graph of a branch or a loop."""
    inner = list(_with_inner(node))
    results = {output.name for one in inner for graph in _graphs(one) for output in graph.output}
    return {name for one in inner for name in one.input} | results


def _with_inner(node: NodeProto) -> Iterator[NodeProto]:
    """A node, and those in the graphs of its branches."""
    yield node
    for graph in _graphs(node):
        for inner in graph.node:
            yield from _with_inner(inner)


def _graphs(node: NodeProto) -> list[GraphProto]:
    return [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]


def _add_constant(model: ModelProto, name: str, value: NDArray[np.float64]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
