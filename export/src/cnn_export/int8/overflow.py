"""The proof that no sum of products overflows 16 bits: from the weights of a file alone, whatever the picture.

The kernels are those of ONNX Runtime's MLAS library. x86 processors without VNNI add two products of unsigned
activations in 16 bits (``vpmaddubsw``); 64-bit Arm processors without dot product add two products of signed ones
(``smull``, ``smlal``). All others add in 32 bits. So the largest and the smallest sum of a pair decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from cnn_export.errors import GraphError
from cnn_export.graph.passes import constants_of, makers_of
from cnn_export.int8.pairs import LAYERS, products_added

LIMIT = (-32768, 32767)
"""Smallest and largest number of 16 bits."""

PROCESSORS = {"uint8": "x86 without VNNI", "int8": "64-bit Arm without dot product"}
"""The processors that add two products in 16 bits, by the type of the activations."""


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
class Proof:
    """What is known about the integers that a file computes on different processors.

    Attributes:
        layers: The quantized layers.
        floats: Names of the layers in fp32. Processors round their sums differently.
    """

    layers: tuple[Layer, ...]
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
                f"pass --for vnni, or leave out --quantize"
            )


def prove(model: ModelProto) -> Proof:
    """Compute the bound of each layer of a quantized graph from its weights.

    Args:
        model: A finished int8 file, or its graph.
    """
    layers = {node.name: None for node in model.graph.node if node.op_type in LAYERS}
    found = {layer.name: layer for layer in _layers(model)}
    floats = tuple(name for name in layers if name not in found)
    return Proof(tuple(found.values()), floats)


def _layers(model: ModelProto) -> Iterator[Layer]:
    constants, makers = constants_of(model), makers_of(model)
    for node in model.graph.node:
        if node.op_type not in LAYERS:
            continue
        values, weights = (makers.get(name) for name in node.input[:2])
        if values is None or weights is None or {values.op_type, weights.op_type} != {"DequantizeLinear"}:
            continue
        zero_point, weight = constants[values.input[2]], constants[weights.input[0]]
        low, high = (0, 255) if zero_point.dtype == np.uint8 else (-128, 127)
        groups = products_added(node, weight).astype(np.int64)
        products = np.stack([groups * low, groups * high])
        yield Layer(
            name=node.name,
            largest_pair=int(products.max(axis=0).sum(axis=2).max()),
            smallest_pair=int(products.min(axis=0).sum(axis=2).min()),
            processors=PROCESSORS[zero_point.dtype.name],
        )
