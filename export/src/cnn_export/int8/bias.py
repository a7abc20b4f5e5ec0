"""Bias correction: rounded weights shift the mean output of a layer, and a corrected bias removes that shift."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, numpy_helper

from cnn_export.graph.lookup import attribute_of, constants_of, shape_along
from cnn_export.int8.ranges import Statistics


def correct_biases(quantized: ModelProto, model: ModelProto, statistics: Mapping[str, Statistics]) -> int:
    """Correct the int32 biases of ``quantized`` in place.

    The expected shift of an output channel is the sum over all input channels of the weight error times the mean of
    the input channel (Nagel et al., 2019, arXiv:1906.04721, section 4.2, with measured means).

    Args:
        quantized: Result of :func:`cnn_export.int8.quantize.quantize` for ``model``; nodes have the same names.
        model: Float graph.
        statistics: Statistics of its tensors.

    Returns:
        The number of corrected layers.
    """
    floats, integers = constants_of(model), constants_of(quantized)
    dequantized = {node.output[0]: node.input for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    layers = {node.name: node for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    initializers = {tensor.name: tensor for tensor in quantized.graph.initializer}
    corrected = 0
    for node in quantized.graph.node:
        layer = layers.get(node.name)
        if layer is None or len(node.input) < 3 or layer.input[0] not in statistics or layer.input[1] not in floats:
            continue
        weight, bias = (dequantized.get(name) for name in node.input[1:3])
        if weight is None or bias is None or bias[0] not in initializers:
            continue
        exact = floats[layer.input[1]].astype(np.float64)
        scale = integers[weight[1]].astype(np.float64)
        transposed = layer.op_type == "Gemm" and not attribute_of(layer, "transB", 0)
        axis = 1 if transposed else 0
        error = integers[weight[0]].astype(np.float64) * scale.reshape(shape_along(axis, exact.ndim)) - exact
        error = (error.T if transposed else error).reshape(error.shape[axis], -1)
        means = statistics[layer.input[0]].means
        groups = attribute_of(layer, "group", 1)
        # a filter reads the channels of its own group, and has one weight per channel and kernel position
        own = np.repeat(means.reshape(groups, -1), len(error) // groups, axis=0)
        inputs = np.repeat(own, error.shape[1] // own.shape[1], axis=1)
        shift = (error * inputs).sum(axis=1) / integers[bias[1]].astype(np.float64)
        values = integers[bias[0]].astype(np.int64) - np.rint(shift).astype(np.int64)
        limits = np.iinfo(np.int32)
        stored = numpy_helper.from_array(values.clip(limits.min, limits.max).astype(np.int32), bias[0])
        initializers[bias[0]].CopyFrom(stored)
        corrected += 1
    return corrected
