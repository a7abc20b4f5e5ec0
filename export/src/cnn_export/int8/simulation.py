"""A quantized graph as a PyTorch module with trainable weights. It rounds exactly where ONNX Runtime rounds.

QuantizeLinear divides by the scale, rounds halves to even, adds the zero point and saturates (ONNX operators). The
gradient ignores the rounding, and is zero for values outside of the range (straight-through estimator: Bengio et al.,
2013, arXiv:1308.3432; Jacob et al., 2018, arXiv:1712.05877).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto
from torch import Tensor, nn
from torch.nn import functional

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import attribute_of, constants_of, makers_of, shape_along
from cnn_export.int8.pairs import MOST, SEVEN_BITS, are_limited, nearest


def fake_quantize(values: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """Round float values to the values that int8 represents, with a straight-through gradient.

    Args:
        values: float32, any shape.
        scale: Distance between two levels; broadcasts against ``values``.
        zero_point: Level that represents 0, as a float; broadcasts against ``values``.
        low: Smallest level.
        high: Largest level.
    """
    levels = (torch.round(values / scale) + zero_point).clamp(low, high)
    inside = values.clamp((low - zero_point) * scale, (high - zero_point) * scale)
    return inside + ((levels - zero_point) * scale - inside).detach()


class Simulation(nn.Module):
    """Computes the logits of a quantized graph from float weights and biases, which it rounds in each forward pass.

    ``weights`` and ``biases`` hold one parameter per layer. Their initial values are those of the float graph.

    Args:
        quantized: Result of :func:`cnn_export.int8.quantize.quantize`; scales and zero points stay fixed.
        model: Float graph that ``quantized`` was made of; layers have the same names.

    Raises:
        GraphError: The graph has an operator that is not supported.
    """

    def __init__(self, quantized: ModelProto, model: ModelProto) -> None:
        super().__init__()
        self._graph = quantized.graph
        unknown = {node.op_type for node in self._graph.node} - _OPERATORS.keys()
        unknown -= {"QuantizeLinear", "DequantizeLinear", "Constant"}
        if unknown:
            raise GraphError(
                f"qat does not support {', '.join(sorted(unknown))}: leave out qat (--qat) for this network"
            )
        self._makers = makers_of(quantized)
        self._constants = {name: torch.from_numpy(np.array(value)) for name, value in constants_of(quantized).items()}
        initial, self.weights, self.biases = constants_of(model), nn.ParameterDict(), nn.ParameterDict()
        self._limited: set[str] = set()
        self._keys = {node.name: f"layer{index}" for index, node in enumerate(self._graph.node)}
        layers = {node.name: node for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
        for node in self._graph.node:
            layer = layers.get(node.name)
            if layer is not None and layer.input[1] in initial:
                key = self._keys[node.name]
                self.weights[key] = nn.Parameter(torch.from_numpy(initial[layer.input[1]].astype(np.float32)))
                source = self._makers.get(node.input[1])
                if source is not None and are_limited(layer, self._constants[source.input[0]].numpy()):
                    self._limited.add(key)
                if len(layer.input) > 2:
                    self.biases[key] = nn.Parameter(torch.from_numpy(initial[layer.input[2]].astype(np.float32)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits of a batch.

        Args:
            pictures: Normalised, float32 (n, c, h, w).

        Returns:
            float32 (n, classes).
        """
        values: dict[str, Tensor] = {**self._constants, self._graph.input[0].name: pictures}
        for node in self._graph.node:
            if node.op_type == "Constant":
                continue
            if node.op_type == "QuantizeLinear":
                # DequantizeLinear computes the whole pair
                values[node.output[0]] = values[node.input[0]]
            elif node.op_type == "DequantizeLinear":
                values[node.output[0]] = self._dequantized(node, values)
            else:
                inputs = [values[name] for name in node.input if name]
                key = self._keys[node.name]
                if key in self.weights:
                    inputs[1] = self._weight(node, key)
                    if key in self.biases:
                        inputs[2] = self._bias(node, key)
                values[node.output[0]] = _OPERATORS[node.op_type](node, *inputs)
        logits: Tensor = values[self._graph.output[0].name]
        return logits

    def _dequantized(self, node: NodeProto, values: dict[str, Tensor]) -> Tensor:
        scale, zero = self._constants[node.input[1]], self._zero(node)
        maker = self._makers.get(node.input[0])
        if maker is None or maker.op_type != "QuantizeLinear":  # a constant; layers use their own parameters instead
            return _along((values[node.input[0]].float(), scale, zero.float()), node)
        kind = torch.iinfo(zero.dtype)
        return fake_quantize(values[node.input[0]], scale, zero.float(), kind.min, kind.max)

    def _zero(self, node: NodeProto) -> Tensor:
        return self._constants[node.input[2]] if len(node.input) > 2 else torch.zeros((), dtype=torch.int32)

    def _weight(self, node: NodeProto, key: str) -> Tensor:
        """Return the trained weight, rounded to the levels of the graph."""
        source = self._makers.get(node.input[1])
        weight: Tensor = self.weights[key]
        if source is None or source.op_type != "DequantizeLinear":
            return weight
        scale = _shaped(self._constants[source.input[1]], weight.ndim, source)
        most = self._most(source)
        inside = weight.clamp(-most * scale, most * scale)
        return inside + (self._levels(node, source, key) * scale - inside).detach()

    def _bias(self, node: NodeProto, key: str) -> Tensor:
        source = self._makers.get(node.input[2])
        if source is None or source.op_type != "DequantizeLinear":
            bias: Tensor = self.biases[key]
            return bias
        limits = torch.iinfo(torch.int32)
        scale = self._constants[source.input[1]]
        return fake_quantize(self.biases[key], scale, torch.zeros(()), limits.min, limits.max)

    def _most(self, source: NodeProto) -> int:
        """Return the largest level of a weight: that of 7 bits if the stored weights have no larger one."""
        stored = self._constants[source.input[0]]
        return SEVEN_BITS if int(stored.abs().max()) <= SEVEN_BITS else MOST

    @torch.no_grad()
    def _levels(self, node: NodeProto, source: NodeProto, key: str) -> Tensor:
        """Return the levels of a trained weight, as floats. Pairs cannot overflow if those of the graph cannot."""
        weight = self.weights[key]
        values = weight / _shaped(self._constants[source.input[1]], weight.ndim, source)
        if key in self._limited:
            values = torch.from_numpy(nearest(node, values.numpy()))
        most = self._most(source)
        return torch.round(values).clamp(-most, most)

    @torch.no_grad()
    def store(self) -> int:
        """Write the trained weights and biases into the graph, as integers, and return the number of layers."""
        initializers = {tensor.name: tensor for tensor in self._graph.initializer}
        stored = 0
        for node in self._graph.node:
            key = self._keys[node.name]
            source = self._makers.get(node.input[1]) if key in self.weights else None
            if source is None or source.op_type != "DequantizeLinear":
                continue
            levels = self._levels(node, source, key)
            _write(initializers[source.input[0]], levels.to(torch.int8).numpy())
            bias = self._makers.get(node.input[2]) if key in self.biases else None
            if bias is not None and bias.input[0] in initializers:
                levels = torch.round(self.biases[key].double() / self._constants[bias.input[1]].double())
                _write(initializers[bias.input[0]], levels.to(torch.int32).numpy())
            stored += 1
        return stored


def _write(tensor: Any, values: np.ndarray[Any, Any]) -> None:
    tensor.ClearField("int32_data")
    tensor.raw_data = values.tobytes()


def _shaped(scale: Tensor, dimensions: int, node: NodeProto) -> Tensor:
    """Return a scale per index of the node's axis, reshaped to broadcast against a tensor of that many dimensions."""
    return scale.reshape(shape_along(attribute_of(node, "axis", 1), dimensions)) if scale.ndim else scale


def _along(parts: tuple[Tensor, Tensor, Tensor], node: NodeProto) -> Tensor:
    values, scale, zero = parts
    return (values - _shaped(zero, values.ndim, node)) * _shaped(scale, values.ndim, node)


def _padding(node: NodeProto) -> list[int]:
    """Return the padding in PyTorch's order (left, right, top, bottom); ONNX has top, left, bottom, right."""
    top, left, bottom, right = attribute_of(node, "pads", [0, 0, 0, 0])
    return [left, right, top, bottom]


def _conv(node: NodeProto, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    values = functional.pad(values, _padding(node))
    stride, dilation = attribute_of(node, "strides", [1, 1]), attribute_of(node, "dilations", [1, 1])
    return functional.conv2d(values, weight, bias, stride, 0, dilation, attribute_of(node, "group", 1))


def _gemm(node: NodeProto, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = values @ (weight.T if attribute_of(node, "transB", 0) else weight)
    return product if bias is None else product + bias


def _max_pool(node: NodeProto, values: Tensor) -> Tensor:
    values = functional.pad(values, _padding(node), value=-torch.inf)
    return functional.max_pool2d(
        values,
        attribute_of(node, "kernel_shape", None),
        attribute_of(node, "strides", [1, 1]),
        ceil_mode=bool(attribute_of(node, "ceil_mode", 0)),
    )


def _clip(_: NodeProto, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return values.clamp(low, high)


def _reshape(_: NodeProto, values: Tensor, shape: Tensor) -> Tensor:
    return values.reshape([size if size else values.shape[index] for index, size in enumerate(shape.tolist())])


def _pad(_: NodeProto, values: Tensor, pads: Tensor, *filler: Tensor) -> Tensor:
    before, after = pads.tolist()[: values.ndim], pads.tolist()[values.ndim :]
    ordered = [amount for pair in reversed(list(zip(before, after, strict=True))) for amount in pair]
    return functional.pad(values, ordered, value=float(filler[0]) if filler else 0.0)


def _slice(_: NodeProto, values: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, *steps: Tensor) -> Tensor:
    strides = steps[0].tolist() if steps else [1] * len(starts)
    for start, end, axis, stride in zip(starts.tolist(), ends.tolist(), axes.tolist(), strides, strict=True):
        places = range(*slice(start, end, stride).indices(values.shape[axis]))
        values = values.index_select(axis, torch.tensor(places))
    return values


_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Add": lambda _, a, b: a + b,
    "Clip": _clip,
    "Concat": lambda node, *parts: torch.cat(parts, attribute_of(node, "axis", 1)),
    "Conv": _conv,
    "Flatten": lambda node, values: values.flatten(attribute_of(node, "axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, values: values.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda _, values: functional.hardsigmoid(values),
    "HardSwish": lambda _, values: functional.hardswish(values),
    "Identity": lambda _, values: values,
    "MaxPool": _max_pool,
    "Mul": lambda _, a, b: a * b,
    "Pad": _pad,
    "Relu": lambda _, values: values.relu(),
    "Reshape": _reshape,
    "Sigmoid": lambda _, values: values.sigmoid(),
    "Slice": _slice,
    "Transpose": lambda node, values: values.permute(attribute_of(node, "perm", None)),
}
"""Implementation of each operator, called with the node and its inputs."""
