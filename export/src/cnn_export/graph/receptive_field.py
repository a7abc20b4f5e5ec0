"""The receptive field: which pixels of the input a cell of a feature map depends on.

(Araujo, Norris and Sim, 2019, "Computing Receptive Fields of Convolutional Neural Networks", Distill,
doi:10.23915/distill.00021.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from cnn_export.graph.lookup import attribute_of, constants_of, makers_of, shapes_of

POINTWISE = frozenset({
    "Add", "BatchNormalization", "Cast", "Clip", "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "QuantizeLinear", "Relu", "Selu", "Sigmoid",
    "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "Where",
})  # fmt: skip
"""Operators that compute each cell from the same cell of their inputs."""

UNSHUFFLE = [0, 1, 3, 5, 2, 4]
"""The permutation of a pixel unshuffle (space to depth), between two reshapes: (n, c, h / b, b, w / b, b) to
(n, c, b, b, h / b, w / b)."""

WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool"})
GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "ReduceMax", "ReduceMean", "ReduceSum"})


@dataclass(frozen=True)
class Axis:
    """The pixels that a cell sees along one axis: cell i sees ``size`` pixels from ``start + i * step``.

    ``start`` can be negative: padding is outside of the picture.
    """

    start: int
    size: int
    step: int

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
        """Return what a cell sees after a convolution or a pooling."""
        reach = self.size + (kernel - 1) * dilation * self.step
        return Axis(self.start - padding * self.step, reach, self.step * stride)

    def every(self, first: int, stride: int) -> Axis:
        """Return what a cell sees if only every ``stride``-th cell from ``first`` is left."""
        return Axis(self.start + first * self.step, self.size, self.step * stride)

    def joined(self, other: Axis) -> Axis | None:
        """Return the smallest range around two ranges; None if their steps differ."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Axis(start, end - start, self.step) if self.step == other.step else None


@dataclass(frozen=True)
class Field:
    """The pixels that a cell depends on.

    Attributes:
        axes: Those along height and width; None for a tensor without cells, such as the result of a global mean.
        gated: Whether a cell also depends on the whole picture: a global mean scales the channels (as in
            squeeze-and-excitation), or an operator is not known.
    """

    axes: tuple[Axis, Axis] | None
    gated: bool


PIXELS = Field((Axis(0, 1, 1), Axis(0, 1, 1)), gated=False)
EVERYTHING = Field(None, gated=True)


def receptive_field(model: ModelProto, start: str, tensor: str) -> Field:
    """Return the receptive field of the cells of ``tensor``.

    Args:
        model: A graph.
        start: Tensor of pictures, (batch, channels, height, width).
        tensor: Tensor of features, (batch, channels, rows, columns).

    Returns:
        The field. If an operator between the two is not known, no ``axes``, and ``gated``.
    """
    walk = _Walk(constants_of(model), shapes_of(model), makers_of(model))
    fields: dict[str, Field] = {start: PIXELS}
    for node in model.graph.node:
        read = [fields[name] for name in node.input if name in fields]
        if read and node.op_type != "Shape":
            found = walk.after(node, fields, read)
            fields.update(dict.fromkeys(node.output, found))
    return fields.get(tensor, EVERYTHING)


@dataclass(frozen=True)
class _Walk:
    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, list[Any]]
    makers: Mapping[str, NodeProto]

    def after(self, node: NodeProto, fields: Mapping[str, Field], read: Sequence[Field]) -> Field:
        """Return the field of a node's outputs, from those of its inputs."""
        first = fields.get(node.input[0])
        if node.op_type == "Transpose" and list(attribute_of(node, "perm", [])) == UNSHUFFLE:
            return self._unshuffle(node, fields)
        if all(field.axes is None for field in read) or node.op_type in GLOBAL:
            return EVERYTHING
        if node.op_type in POINTWISE or (node.op_type == "Concat" and attribute_of(node, "axis", 0) == 1):
            return reduce(_joined, read)
        if first is None or first.axes is None:
            return EVERYTHING
        axes: Sequence[Axis | None]
        if node.op_type in WINDOWS:
            axes = self._window(node, first.axes)
        elif node.op_type == "SpaceToDepth":
            block = attribute_of(node, "blocksize", 1)
            axes = [axis.window(block, block, 0, 1) for axis in first.axes]
        elif node.op_type == "Slice":
            axes = self._slice(node, first.axes)
        elif node.op_type == "Pad":
            axes = self._pad(node, first.axes)
        else:  # an operator that leaves rows and columns where they are, such as the shuffling of channels
            before, after = (self.shapes.get(name, [])[-2:] for name in (node.input[0], node.output[0]))
            kept = node.op_type == "Split" or (node.op_type == "Reshape" and before == after)
            moved = node.op_type == "Transpose" and _keeps_last_two(attribute_of(node, "perm", []))
            axes = first.axes if kept or moved else [None, None]
        height, width = axes
        return EVERYTHING if height is None or width is None else Field((height, width), first.gated)

    def _unshuffle(self, node: NodeProto, fields: Mapping[str, Field]) -> Field:
        """Return the field between the two reshapes of a pixel unshuffle: each cell sees one block of cells."""
        reshape = self.makers.get(node.input[0])
        field = fields.get(reshape.input[0], EVERYTHING) if reshape and reshape.op_type == "Reshape" else EVERYTHING
        if field.axes is None or reshape is None:
            return EVERYTHING
        sides, blocks = self.shapes.get(reshape.input[0], [])[2:], self.shapes.get(node.input[0], [])[2:]
        if len(blocks) != 4 or [blocks[0] * blocks[1], blocks[2] * blocks[3]] != sides:
            return EVERYTHING
        height, width = field.axes
        return Field((height.window(blocks[1], blocks[1], 0, 1), width.window(blocks[3], blocks[3], 0, 1)), field.gated)

    def _window(self, node: NodeProto, axes: tuple[Axis, Axis]) -> list[Axis | None]:
        if attribute_of(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            return [None, None]
        kernel = attribute_of(node, "kernel_shape", None) or self.shapes[node.input[1]][2:]
        strides, dilations = (attribute_of(node, name, [1, 1]) for name in ("strides", "dilations"))
        padding = attribute_of(node, "pads", [0, 0, 0, 0])
        return [axes[i].window(kernel[i], strides[i], padding[i], dilations[i]) for i in (0, 1)]

    def _slice(self, node: NodeProto, axes: tuple[Axis, Axis]) -> list[Axis | None]:
        rank, names = 4, [*node.input[1:], "", ""]
        starts = self.constants.get(names[0])
        along = self.constants.get(names[2], None if names[2] else np.arange(0 if starts is None else starts.size))
        steps = self.constants.get(names[3], None if names[3] else np.ones(0 if starts is None else starts.size))
        if starts is None or along is None or steps is None:
            return [None, None]
        result: list[Axis | None] = list(axes)
        for axis, first, step in zip(
            along.ravel().tolist(), starts.ravel().tolist(), steps.ravel().tolist(), strict=True
        ):
            place = int(axis) % rank - 2
            if place < 0:
                continue
            length = self.shapes.get(node.input[0], [])[-2:]
            if step < 1 or (first < 0 and not all(isinstance(side, int) for side in length)):
                return [None, None]
            result[place] = axes[place].every(int(first) + (length[place] if first < 0 else 0), int(step))
        return result

    def _pad(self, node: NodeProto, axes: tuple[Axis, Axis]) -> list[Axis | None]:
        amounts = self.constants.get(node.input[1])
        if amounts is None or amounts.size != 8 or (len(node.input) > 3 and node.input[3]):
            return [None, None]
        top, left = amounts.ravel()[2:4].tolist()
        return [axes[0].every(-int(top), 1), axes[1].every(-int(left), 1)]


def _joined(one: Field, other: Field) -> Field:
    gated = one.gated or other.gated
    if one.axes is None or other.axes is None:
        return Field(one.axes or other.axes, gated=True)
    height, width = (mine.joined(theirs) for mine, theirs in zip(one.axes, other.axes, strict=True))
    return EVERYTHING if height is None or width is None else Field((height, width), gated)


def _keeps_last_two(order: Sequence[int]) -> bool:
    return list(order[-2:]) == [len(order) - 2, len(order) - 1]
