"""A quantized model file evaluated exactly, without the int8 kernels of ONNX Runtime.

The graph is the one that ONNX Runtime runs: its optimiser decides which nodes become int8 nodes. Each node that
computes with 8-bit integers is evaluated by :mod:`cnn_export.int8.kernels`; the nodes that only move values or compute
in fp32 are run in ONNX Runtime, one by one. So the result does not depend on the int8 instructions of this machine, and
can be that of a processor on which sums of two products saturate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cnn_infer import console
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from torch import Tensor

from cnn_export.batches import batches
from cnn_export.errors import GraphError
from cnn_export.graph.lookup import attribute_of, constants_of, shape_along
from cnn_export.graph.passes import MOVES
from cnn_export.graph.runtime_graph import optimised
from cnn_export.graph.session import session_on_cpu
from cnn_export.int8 import kernels
from cnn_export.int8.kernels import Convolution, Levels, Products, Window
from cnn_export.parity import FULL_BATCH, Outputs

MOVING = MOVES | {"Flatten", "Squeeze", "Unsqueeze"}
"""Operators that move levels without computing with them."""

Values = Mapping[str, Tensor]
Step = Callable[[Values], Tensor]
"""Computes the output of a node from the tensors computed before."""


class Reference:
    """Evaluates a quantized model file exactly, in integers, as ONNX Runtime's kernels define the result.

    Args:
        model: Content of the model file, with the inputs and outputs of the model contract; float nodes are allowed.
        saturates: Whether sums of two products saturate to 16 bits, as on x86 processors without VNNI.

    Raises:
        GraphError: The graph has an int8 node that is not known, or ONNX Runtime cannot load it.
        DeviceError: ONNX Runtime is not installed.
    """

    def __init__(self, model: ModelProto, *, saturates: bool = False) -> None:
        self._model = optimised(model.SerializeToString())
        self._saturates = saturates
        self._constants = {name: _tensor(value) for name, value in constants_of(self._model).items()}
        nodes = [node for node in self._model.graph.node if node.op_type != "Constant"]
        self._steps = [(node, self._step(node)) for node in nodes]
        self._reads = Counter(name for node in nodes for name in node.input)
        # an int8 node that is not known is found now, not after minutes
        self._batch(np.zeros((1, *_input_shape(self._model)), np.uint8))

    def run(self, pictures: NDArray[np.uint8], what: str | None = None) -> Outputs:
        """Return the outputs for pictures.

        Args:
            pictures: uint8 (n, height, width, channels).
            what: Title of a progress bar; None for no bar.
        """
        parts = []
        with console.progress(what, len(pictures)) if what else nullcontext(lambda _: None) as advance:
            for batch in batches(pictures, FULL_BATCH):
                parts.append(self._batch(batch))
                advance(len(parts[-1][0]))
        logits, probabilities = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Outputs(logits, probabilities)

    @torch.no_grad()
    def _batch(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        values = {**self._constants, INPUT: _tensor(pictures)}
        left = self._reads.copy()
        for node, step in self._steps:
            values[node.output[0]] = step(values)
            for name in node.input:
                left[name] -= 1
                if not left[name] and name not in self._constants and name not in (LOGITS, PROBABILITIES):
                    del values[name]  # features of a whole batch are large
        return values[LOGITS].numpy(), values[PROBABILITIES].numpy()

    def _step(self, node: NodeProto) -> Step:
        makers: dict[str, Callable[[NodeProto], Step]] = {
            "QuantizeLinear": self._quantize,
            "DequantizeLinear": self._dequantize,
            "QLinearConv": self._convolution,
            "QLinearAdd": self._add,
            "QLinearGlobalAveragePool": self._global_average,
            "QGemm": self._matrix_product,
        }
        if node.op_type in makers:
            return makers[node.op_type](node)
        return self._other(node)

    def _levels(self, node: NodeProto, scale: int, zero_point: int) -> Levels:
        """The levels whose scale and zero point are the inputs at these places."""
        factor = self._constant(node, scale)
        if len(node.input) <= zero_point:  # it is optional in DequantizeLinear
            return Levels(factor, 0, torch.int32)
        zero = self._constant(node, zero_point)
        if bool((zero != zero.flatten()[0]).any()):
            raise GraphError(f"the reference does not know {_named(node)} with a zero point for each channel")
        return Levels(factor, int(zero.flatten()[0]), zero.dtype)

    def _constant(self, node: NodeProto, place: int) -> Tensor:
        name = node.input[place]
        if name not in self._constants:
            raise GraphError(f"the reference does not know {_named(node)} with computed scales or weights")
        return self._constants[name]

    def _quantize(self, node: NodeProto) -> Step:
        levels = self._levels(node, 1, 2)
        return lambda values: kernels.quantize(values[node.input[0]], _along_axis(node, levels, values[node.input[0]]))

    def _dequantize(self, node: NodeProto) -> Step:
        levels = self._levels(node, 1, 2)
        return lambda values: kernels.dequantize(
            values[node.input[0]], _along_axis(node, levels, values[node.input[0]])
        )

    def _weights(self, node: NodeProto, place: int) -> tuple[Tensor, Tensor]:
        """The int8 weights at a place of the inputs, and their scale."""
        levels, weights = self._levels(node, place + 1, place + 2), self._constant(node, place)
        if weights.dtype != torch.int8 or levels.zero_point:
            raise GraphError(f"the reference does not know {_named(node)} with weights that are not symmetric int8")
        return weights, levels.scale

    def _convolution(self, node: NodeProto) -> Step:
        source, result = self._levels(node, 1, 2), self._levels(node, 6, 7)
        weights, scale = self._weights(node, 3)
        bias = self._constant(node, 8) if len(node.input) > 8 and node.input[8] else torch.zeros(len(weights))
        convolution = Convolution(
            weights,
            bias,
            source.scale * scale / result.scale,
            _window(node, (weights.shape[2], weights.shape[3])),
            attribute_of(node, "group", 1),
            saturates=self._saturates,
        )
        channels_last = bool(attribute_of(node, "channels_last", 0))
        return _planes(node.input[0], channels_last, lambda values: convolution(values, source.zero_point, result))

    def _matrix_product(self, node: NodeProto) -> Step:
        source = self._levels(node, 1, 2)
        stored, scale = self._weights(node, 3)
        if attribute_of(node, "transA", 0):
            raise GraphError(f"the reference does not know {_named(node)} with a transposed input")
        weights = stored if attribute_of(node, "transB", 0) else stored.T
        order = torch.arange(weights.shape[1]) if self._saturates else None
        products = Products(weights[None], order)
        bias = self._constant(node, 6).double().reshape(1, -1) if len(node.input) > 6 and node.input[6] else 0.0
        multiplier: Tensor = source.scale * attribute_of(node, "alpha", 1.0) * scale
        result = self._levels(node, 7, 8) if len(node.input) > 8 and node.input[8] else None

        def step(values: Values) -> Tensor:
            rows = values[node.input[0]].float().T[None, None]
            sums = products(rows, source.zero_point)[0, 0].T + bias
            if result is None:
                return sums.float() * multiplier
            return kernels.requantize(sums, multiplier / result.scale, result)

        return step

    def _add(self, node: NodeProto) -> Step:
        sources, result = (self._levels(node, 1, 2), self._levels(node, 4, 5)), self._levels(node, 6, 7)

        def step(values: Values) -> Tensor:
            first, second = values[node.input[0]], values[node.input[3]]
            if first.shape != second.shape:
                raise GraphError(f"the reference does not know {_named(node)} with inputs of different shapes")
            return kernels.add((first, second), sources, result)

        return step

    def _global_average(self, node: NodeProto) -> Step:
        source, result = self._levels(node, 1, 2), self._levels(node, 3, 4)
        channels_last = bool(attribute_of(node, "channels_last", 0))
        return _planes(node.input[0], channels_last, lambda values: kernels.global_average(values, source, result))

    def _other(self, node: NodeProto) -> Step:
        """A node that moves values or computes in fp32: it runs in ONNX Runtime. Max pooling of levels is known too."""
        pool = _max_pool(node) if node.op_type in ("MaxPool", "NhwcMaxPool") and len(node.output) == 1 else None
        session = None

        def step(values: Values) -> Tensor:
            nonlocal session
            inputs = {name: values[name] for name in dict.fromkeys(node.input) if name}
            computed = [value.dtype for name, value in inputs.items() if name not in self._constants]
            if node.op_type not in MOVING and not {torch.uint8, torch.int8}.isdisjoint(computed):
                if pool is None:
                    raise GraphError(f"the reference does not know how ONNX Runtime computes {_named(node)} in int8")
                return pool(values)
            session = session or self._session(node, inputs)
            (output,) = session.run(node.output[:1], {name: value.numpy() for name, value in inputs.items()})
            return _tensor(output)

        return step

    def _session(self, node: NodeProto, inputs: Values) -> Any:
        """A session that runs one node."""
        kinds = {name: helper.np_dtype_to_tensor_dtype(value.numpy().dtype) for name, value in inputs.items()}
        graph = helper.make_graph(
            [node],
            "node",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
            [helper.make_empty_tensor_value_info(node.output[0])],
        )
        alone = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return session_on_cpu(alone, optimise=False)


def _tensor(array: NDArray[Any]) -> Tensor:
    # a copy, because PyTorch cannot share an array that is read-only
    return torch.from_numpy(np.array(array))


def _input_shape(model: ModelProto) -> tuple[int, ...]:
    """The shape (height, width, channels) of a picture."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return tuple(dimension.dim_value for dimension in dimensions[1:])


def _named(node: NodeProto) -> str:
    return f"{node.name or node.output[0]} ({node.op_type})"


def _along_axis(node: NodeProto, levels: Levels, values: Tensor) -> Levels:
    """The levels of QuantizeLinear or DequantizeLinear, with scales that broadcast against its input."""
    if levels.scale.numel() == 1:
        return levels
    return replace(levels, scale=levels.scale.reshape(shape_along(attribute_of(node, "axis", 1), values.ndim)))


def _planes(name: str, channels_last: bool, step: Callable[[Tensor], Tensor]) -> Step:
    """A step on (n, c, h, w), for a node whose input and output are (n, h, w, c) if ``channels_last``."""
    if not channels_last:
        return lambda values: step(values[name])
    return lambda values: step(values[name].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _window(node: NodeProto, kernel: tuple[int, int]) -> Window:
    if attribute_of(node, "auto_pad", b"NOTSET") != b"NOTSET":
        raise GraphError(f"the reference does not know {_named(node)} with automatic padding")
    return Window(
        kernel,
        tuple(attribute_of(node, "strides", (1, 1))),
        tuple(attribute_of(node, "dilations", (1, 1))),
        tuple(attribute_of(node, "pads", (0, 0, 0, 0))),
    )


def _max_pool(node: NodeProto) -> Step:
    window = _window(node, tuple(attribute_of(node, "kernel_shape", ())))
    ceil_mode = bool(attribute_of(node, "ceil_mode", 0))
    channels_last = node.op_type == "NhwcMaxPool"
    return _planes(node.input[0], channels_last, lambda values: kernels.max_pool(values, window, ceil_mode=ceil_mode))
