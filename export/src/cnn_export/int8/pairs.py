"""Weights whose products can be added in pairs of 16 bits without overflow, whatever the picture.

x86 processors without VNNI multiply unsigned activations by signed weights with the instruction ``vpmaddubsw``: it adds
two neighbouring products and saturates the sum to int16. ONNX Runtime packs the weights of a filter in the order kernel
row, kernel column, input channel, and neighbours are the elements 0 and 1, 2 and 3, and so on. Depthwise convolutions
have kernels of their own, which add every product in 32 bits.

Activations are at most 255. So two weights w and v cannot overflow if -128 <= w + v <= 128: of weights with the same
sign the sum counts, and weights of different signs never overflow. A weight next to a small one keeps all of its 8
bits. Weights of 7 bits, the usual remedy, fulfil the rule too, but each of them gives up a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from cnn_export.graph.lookup import attribute_of, constants_of, makers_of
from cnn_export.graph.width import PIXELS, wide_weight

MOST = 127
"""Largest weight. Its negative is the smallest one: -128 would overflow on 64-bit Arm without dot product."""

MOST_OF_PAIR = 32767 // 255
"""Largest sum of two weights of the same sign."""

SEVEN_BITS = 64
"""Largest weight of 7 bits."""

SCALES = 24
"""Number of scales that are tried for a filter, besides that of 7 bits."""

BIAS_LIMIT = float(2**30)
"""Largest accepted int32 bias: half of the range stays free for the products."""

LAYERS = ("Conv", "Gemm", "MatMul")


def products_added(node: NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """Return the weights of a layer, grouped by the products that are added in 16 bits.

    Args:
        node: Conv, Gemm or MatMul.
        weight: Its weight.

    Returns:
        Array of the same type (filters, groups, 2), with a 0 at the end of an odd number of weights. Of a depthwise
        convolution (filters, groups, 1): each product is added alone.
    """
    if node.op_type == "Conv":
        rows = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
        if is_depthwise(node, weight):
            return rows[:, :, None]
    else:
        rows = weight if node.op_type == "Gemm" and attribute_of(node, "transB", 0) else weight.T
    return np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)


def is_depthwise(node: NodeProto, weight: NDArray[np.generic]) -> bool:
    """Whether a convolution has one input and one output channel in each of several groups."""
    groups = attribute_of(node, "group", 1)
    return bool(1 < groups == len(weight) and weight.shape[1] == 1)


def limit_pairs(quantized: ModelProto, model: ModelProto, copies: str = "") -> None:
    """Replace the weights of ``quantized`` by weights whose pairs cannot overflow. Scales and biases follow.

    Args:
        quantized: Result of ONNX Runtime's quantizer for ``model``; nodes have the same names.
        model: Float graph.
        copies: Name of the tensor that has four shifted copies of the picture, if there is one. The 1x1 convolution of
            them may run on wide pixels (:mod:`cnn_export.graph.width`), where other weights are neighbours.
    """
    floats, integers, makers = constants_of(model), constants_of(quantized), makers_of(quantized)
    initializers = {tensor.name: tensor for tensor in quantized.graph.initializer}
    layers = {node.name: node for node in model.graph.node if node.op_type in LAYERS}

    def store(name: str, values: NDArray[np.generic]) -> None:
        initializers[name].CopyFrom(numpy_helper.from_array(values.reshape(integers[name].shape), name))

    for node in quantized.graph.node:
        layer = layers.get(node.name)
        source = makers.get(node.input[1]) if layer is not None and layer.input[1] in floats else None
        if layer is None or source is None or source.op_type != "DequantizeLinear":
            continue
        exact = floats[layer.input[1]].astype(np.float32)
        groups = products_added(layer, exact)
        if groups.shape[2] == 1:
            continue
        bias = makers.get(node.input[2]) if len(node.input) > 2 else None
        step = integers[makers[node.input[0]].input[1]].astype(np.float32)
        wanted = floats[layer.input[2]].astype(np.float64) if bias is not None else np.zeros(len(groups))
        least = np.abs(wanted) / (float(step) * BIAS_LIMIT)
        is_copied = layer.input[0] == copies and exact.shape[1] % 4 == 0 and exact.shape[2:] == (1, 1)
        accepted = _limited_when_wide(layer, exact) if is_copied else _all
        if not integers[source.input[1]].ndim:  # one scale for all filters
            groups, least = groups.reshape(1, -1, 2), least.max(keepdims=True)
        levels, scales = fitted(groups, least, accepted)
        store(source.input[0], _in_place(layer, levels, exact))
        store(source.input[1], scales)
        if bias is not None:
            store(bias.input[0], np.rint(wanted / (step * scales).astype(np.float64)).astype(np.int32))
            store(bias.input[1], step * scales)


def _all(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.ones(len(levels), np.bool_)


def _limited_when_wide(layer: NodeProto, weight: NDArray[Any]) -> Callable[[NDArray[np.float32]], NDArray[np.bool_]]:
    """Return a function that tells whether the pairs of each filter are limited on wide pixels too.

    Args:
        layer: A 1x1 convolution of four shifted copies.
        weight: Its weight, (filters, 4 * channels, 1, 1).
    """

    def limited(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
        narrow = _in_place(layer, levels, weight).reshape(len(weight), 2, 2, -1)
        pairs = products_added(layer, wide_weight(narrow)).reshape(PIXELS, len(levels), -1, 2)
        return np.asarray((np.abs(pairs.sum(axis=3)) <= MOST_OF_PAIR).all(axis=(0, 2)))

    return limited


def fitted(
    groups: NDArray[np.float32],
    least: NDArray[np.float64],
    accepted: Callable[[NDArray[np.float32]], NDArray[np.bool_]] = _all,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round the weights of each filter to integers whose pairs cannot overflow, with the scale of the least error.

    Scales are tried from the smallest one, with which the largest weight is :data:`MOST` and many pairs must be made
    smaller, to the one with which no pair is too large, and that of weights of 7 bits. So no filter has a larger error
    than in the form with 7 bits.

    Args:
        groups: Float weights, float32 (filters, pairs, 2).
        least: Smallest accepted scale of each filter, float64 (filters,).
        accepted: Takes integers like the result, and tells for each filter whether they can be used: bool (filters,).
            Weights of 7 bits are always used.

    Returns:
        Integers, int8 (filters, pairs, 2), and scales, float32 (filters,).
    """
    largest = np.abs(groups).max(axis=(1, 2)).astype(np.float64)
    smallest = np.maximum(largest / MOST, least)
    smallest[smallest < np.finfo(np.float32).tiny] = 1  # nothing but zeros
    free = np.maximum(smallest, np.abs(groups.sum(axis=2)).max(axis=1) / MOST_OF_PAIR)
    levels, scales = np.zeros(groups.shape, np.int8), np.zeros(len(groups), np.float32)
    error = np.full(len(groups), np.inf)
    for tried in (*np.geomspace(smallest, free, SCALES), np.maximum(smallest, largest / SEVEN_BITS)):
        scale = tried.astype(np.float32)
        rounded = _rounded(groups / scale[:, None, None])
        found = np.square(rounded * scale[:, None, None] - groups).sum(axis=(1, 2))
        better = (found < error) & accepted(rounded)
        levels[better], scales[better], error[better] = rounded[better].astype(np.int8), scale[better], found[better]
    return levels, scales


def nearest(node: NodeProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the integers nearest to the weights of a layer, divided by their scale, whose pairs cannot overflow."""
    groups = products_added(node, values)
    return _in_place(node, _rounded(groups) if groups.shape[2] == 2 else np.rint(groups).clip(-MOST, MOST), values)


def are_limited(node: NodeProto, weight: NDArray[np.generic]) -> bool:
    """Whether no pair of integer weights of a layer can overflow."""
    groups = products_added(node, weight)
    return groups.shape[2] == 1 or bool((np.abs(groups.sum(axis=2, dtype=np.int64)) <= MOST_OF_PAIR).all())


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round pairs of values to the nearest pairs of integers that cannot overflow.

    Args:
        values: float32 (..., 2).
    """
    rounded = np.rint(values).clip(-MOST, MOST)
    over = np.abs(rounded.sum(axis=-1)) > MOST_OF_PAIR
    first, second = values[over].clip(-MOST, MOST).T
    # the nearest point on the line first + second = limit
    limit = np.copysign(np.float32(MOST_OF_PAIR), first)
    first = np.rint((first - second + limit) / 2)
    rounded[over] = np.stack([first, limit - first], axis=-1)
    return rounded


def _in_place(node: NodeProto, levels: NDArray[Any], like: NDArray[np.generic]) -> NDArray[Any]:
    """Return weights from :func:`products_added` in the order of the weight ``like``."""
    if node.op_type != "Conv":
        turned = node.op_type != "Gemm" or not attribute_of(node, "transB", 0)
        filters, terms = like.shape[::-1] if turned else like.shape
        rows = levels.reshape(filters, -1)[:, :terms]
        return rows.T if turned else rows
    filters, channels, *kernel = like.shape
    rows = levels.reshape(filters, -1)[:, : like[0].size]
    return np.moveaxis(rows.reshape(filters, *kernel, channels), -1, 1)
