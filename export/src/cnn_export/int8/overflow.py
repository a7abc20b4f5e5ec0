"""The proof that every processor computes the same integers: from a file alone, whatever the picture.

The kernels are those of ONNX Runtime's MLAS library. x86 processors without VNNI add two products of unsigned
activations in 16 bits (``vpmaddubsw``); 64-bit Arm processors without dot product add two products of signed ones
(``smull``, ``smlal``). All others add in 32 bits. So the largest and the smallest sum of a pair decide.

Processors round the sum of two int8 tensors in different ways: all pairs of levels are tried
(:mod:`cnn_export.int8.rounding`). Other nodes in :data:`EXACT` give the same result everywhere: they move, compare or
look up levels, or apply a single operation of float32 to each. A node that is not known counts as different.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cnn_infer.model import LOGITS, PROBABILITIES
from onnx import ModelProto

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import constants_of, consumers_of, makers_of
from cnn_export.graph.passes import MOVES
from cnn_export.int8.additions import additions
from cnn_export.int8.pairs import LAYERS, products_added
from cnn_export.int8.rounding import disagreements

LIMIT = (-32768, 32767)
"""Smallest and largest number of 16 bits."""

PROCESSORS = {"uint8": "x86 without VNNI", "int8": "64-bit Arm without dot product"}
"""The processors that add two products in 16 bits, by the type of the activations."""

EXACT = (
    MOVES
    | {"QuantizeLinear", "DequantizeLinear", "Clip", "MaxPool", "Relu"}
    | {"Constant", "Flatten", "Gather", "Shape", "Split", "Squeeze", "Unsqueeze"}
)
"""Operators with the same result on every processor, on levels and in fp32."""


@dataclass(frozen=True)
class Layer:
    """The sums of two products that a quantized layer can have.

    Attributes:
        name: Name of the node.
        largest_pair: Largest sum for any activations.
        smallest_pair: Smallest sum for any activations.
        limit: Smallest and largest sum that 16 bits hold.
        processors: Those that add two products in 16 bits.
    """

    name: str
    largest_pair: int
    smallest_pair: int
    processors: str
    limit: tuple[int, int] = LIMIT

    @property
    def proven(self) -> bool:
        """Whether no sum overflows."""
        return self.limit[0] <= self.smallest_pair and self.largest_pair <= self.limit[1]


@dataclass(frozen=True)
class Sums:
    """The sums that an int8 addition can have.

    Attributes:
        name: Name of the node.
        different: Pairs of levels, of 65,536, whose sum is rounded to another level on some processors.
    """

    name: str
    different: int


@dataclass(frozen=True)
class Proof:
    """What is known about the integers that a file computes on different processors.

    Attributes:
        layers: The quantized layers.
        additions: The int8 additions.
        floats: Names of the nodes that processors round differently, in the order of the graph: layers and other nodes
            in fp32, operators that are not known, and additions with sums that differ.
    """

    layers: tuple[Layer, ...]
    additions: tuple[Sums, ...]
    floats: tuple[str, ...]

    @property
    def outside(self) -> tuple[Layer, ...]:
        """The layers whose sums can overflow."""
        return tuple(layer for layer in self.layers if not layer.proven)

    @property
    def certificate(self) -> dict[str, Any]:
        """The part of the certificate inside the model file."""
        return {
            "proven": not self.outside,
            "layers": [asdict(layer) for layer in self.layers],
            "outside": [layer.name for layer in self.outside],
            "processors": sorted({layer.processors for layer in self.outside}),
            "additions": [asdict(sums) for sums in self.additions],
            "floats": list(self.floats),
        }

    def check(self) -> None:
        """Check that no sum overflows.

        Raises:
            GraphError: a sum can overflow.
        """
        for layer in self.outside:
            raise GraphError(
                f"int8 layer {layer.name}: sums of two products reach from {layer.smallest_pair} to "
                f"{layer.largest_pair}, outside of 16 bits, so {layer.processors} would compute other integers: "
                "pass target (--for) vnni, or leave out quantize (--quantize)"
            )


def prove(model: ModelProto) -> Proof:
    """Compute the bound of each layer of a quantized graph, and compare the roundings of its additions.

    Args:
        model: A finished int8 file, or its graph.
    """
    layers = tuple(_layers(model))
    sums = tuple(
        Sums(one.name, disagreements(one.first, one.second, one.result))
        for one in additions(model, constants_of(model))
    )
    same = {layer.name for layer in layers} | {one.name for one in sums if not one.different}
    return Proof(layers, sums, tuple(_rounded_differently(model, same)))


def _layers(model: ModelProto) -> Iterator[Layer]:
    constants, makers = constants_of(model), makers_of(model)
    for node in model.graph.node:
        if node.op_type not in LAYERS:
            continue
        values, weights = (makers.get(name) for name in node.input[:2])
        if values is None or weights is None or {values.op_type, weights.op_type} != {"DequantizeLinear"}:
            continue
        zero_point, weight = constants[values.input[2]], constants.get(weights.input[0])
        if weight is None:  # the product of two computed tensors
            continue
        low, high = (0, 255) if zero_point.dtype == np.uint8 else (-128, 127)
        groups = products_added(node, weight).astype(np.int64)
        products = np.stack([groups * low, groups * high])
        yield Layer(
            name=node.name,
            largest_pair=int(products.max(axis=0).sum(axis=2).max()),
            smallest_pair=int(products.min(axis=0).sum(axis=2).min()),
            processors=PROCESSORS[zero_point.dtype.name],
        )


def _rounded_differently(model: ModelProto, same: Container[str]) -> Iterator[str]:
    """Yield the names of the nodes before the logits that processors can round differently.

    Args:
        model: A quantized graph or file.
        same: Names of the int8 layers and additions that are the same on every processor.
    """
    makers, readers = makers_of(model), consumers_of(model)
    before: set[str] = set()
    waiting = [output.name for output in model.graph.output if output.name != PROBABILITIES]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in before:
            before.add(name)
            waiting.extend(makers[name].input)
    for node in model.graph.node:
        exact = node.op_type in EXACT or node.name == f"{LOGITS}_scale"  # multiplies each number by the same one
        quantized = {reader.op_type for reader in readers.get(node.output[0], [])} == {"QuantizeLinear"}
        if node.op_type == "Conv":  # without a QuantizeLinear after it, ONNX Runtime computes it in fp32
            exact = node.name in same and quantized
        elif node.op_type in (*LAYERS, "Add"):
            exact = node.name in same
        elif node.op_type == "GlobalAveragePool":  # one product of float32 for each exact sum, rounded to even
            source = makers.get(node.input[0])
            exact = quantized and source is not None and source.op_type == "DequantizeLinear"
        if node.output[0] in before and not exact:
            yield node.name or node.output[0]
