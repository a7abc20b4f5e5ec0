"""The fp16 form of a finished fp32 graph: fp16 between the normalisation and the logits, the same inputs and outputs.

The normalisation, the softmax at the end, and nodes that fp16 cannot compute stay in fp32. A tensor that is computed in
one format and read in the other is converted once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from cnn_infer.model import LOGITS, PROBABILITIES
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import constants_of
from cnn_export.graph.passes import MOVES, strip_unused
from cnn_export.graph.tensors import Tensors

ROUNDOFF = 2.0**-11
"""Largest relative error of rounding a number to fp16, the unit roundoff."""

LARGEST = float(np.finfo(np.float16).max) / 4
"""Tensors with larger values on the calibration pictures stay in fp32: other pictures may have four times as much."""

SMALLEST = float(np.finfo(np.float16).smallest_normal)
"""Tensors without a larger value stay in fp32: below, fp16 has fewer digits."""

ONLY_FP32 = frozenset({"DequantizeLinear", "QuantizeLinear", "Range"})
"""Operators that stay in fp32: ONNX does not define them for fp16 in all opsets."""

EXACT = MOVES | {"Flatten", "GlobalMaxPool", "MaxPool", "Relu", "Squeeze", "Unsqueeze", "Gather", "Expand", "Split"}
"""Operators whose results are numbers of their input, or 0: they round nothing."""

BIAS = 2
"""Number of the input of a convolution or matrix product that is added to its sums."""

FP32, FP16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
SUFFIX = {FP32: "fp32", FP16: "fp16"}


def unfit(model: ModelProto, batches: Iterable[Mapping[str, NDArray[np.generic]]]) -> dict[str, str]:
    """Find the nodes that must stay in fp32 because of their weights or of the numbers that they read and make.

    Args:
        model: Finished fp32 graph, from :func:`cnn_export.graph.float_graph.keep_contract`.
        batches: Calibration pictures, each batch as the input of the graph.

    Returns:
        The reason for each node, by the node's name.
    """
    constants = {name: values for name, values in constants_of(model).items() if values.dtype == np.float32}
    tensors = Tensors(model)
    largest = dict.fromkeys(tensors.names, 0.0)
    for batch in batches:
        for name, values in tensors.run(batch).items():
            largest[name] = max(largest[name], float(np.abs(values).max(initial=0)))
    found: dict[str, str] = {}
    for node in filter(_is_converted, model.graph.node):
        for name in (*node.input, *node.output):
            value, reason = largest.get(name, 0.0), ""
            if name in constants:
                # a bias only has to be as exact as the sum that it is added to
                is_bias = node.op_type in ("Conv", "Gemm") and list(node.input).index(name) == BIAS
                reason = _loss(constants[name], largest.get(node.output[0], 0.0) if is_bias else 0.0)
            elif value > LARGEST:
                reason = f"{name} reaches {value:.3g}, near the end of the range of fp16 (65504)"
            elif 0 < value < SMALLEST:
                reason = f"{name} does not exceed {value:.3g}, too small for fp16"
            if reason:
                found.setdefault(node.name, reason)
    return found


def to_half(model: ModelProto, kept: Collection[str]) -> ModelProto:
    """Return a copy of a graph that computes in fp16.

    Args:
        model: Finished fp32 graph, from :func:`cnn_export.graph.float_graph.keep_contract`.
        kept: Names of the nodes that stay in fp32.

    Raises:
        GraphError: a node has a graph of its own (a branch or a loop).
    """
    result = ModelProto()
    result.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    graph = result.graph
    conversion = _Conversion.of(result)
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if any(attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute):
            raise GraphError(f"half (--half) cannot convert a branch or a loop: {node.op_type} ({node.name})")
        wanted = FP16 if _is_converted(node) and node.name not in kept else FP32
        conversion.convert(node, wanted)
    graph.node.extend(conversion.nodes)
    graph.initializer.extend(conversion.constants)
    del graph.value_info[:]  # with the types of before
    strip_unused(result)
    onnx.checker.check_model(result, full_check=True)
    return result


def rounded(model: ModelProto) -> tuple[ModelProto, int]:
    """Return a graph that computes on a CPU what a GPU computes in fp16, and the number of its roundings.

    ONNX Runtime on a CPU computes fp16 nodes in fp32 and does not round between them. A GPU multiplies fp16 numbers,
    adds them up in fp32 (Markidis et al., 2018, "NVIDIA Tensor Core Programmability, Performance & Precision",
    arXiv:1803.04014), and rounds the result of each node. So in this graph all numbers are fp32, the constants are
    those of the fp16 graph, and each result is rounded to fp16. What exceeds the range of fp16 becomes infinite.

    Args:
        model: From :func:`to_half`.

    Returns:
        The graph, and the number of roundings along its longest path from the input to the logits: one for each result
        that is rounded, and one for the constants that a node reads.
    """
    result = ModelProto()
    result.CopyFrom(onnx.shape_inference.infer_shapes(model, strict_mode=True))
    graph = result.graph
    halves = {info.name for info in graph.value_info if info.type.tensor_type.elem_type == FP16}
    constants = {tensor.name for tensor in graph.initializer if tensor.data_type == FP16}
    for tensor in graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes, depth = list(graph.node), dict[str, int]()
    del graph.node[:], graph.value_info[:]
    for node in nodes:
        _replace_format(node, FP16, FP32)
        graph.node.append(node)
        made = [name for name in node.output if name in halves and node.op_type not in EXACT]
        before = max((depth.get(name, 0) for name in node.input), default=0)
        own = 1 + any(name in constants for name in node.input) if made else 0
        depth.update(dict.fromkeys(node.output, before + own))
        for name in made:
            names = [f"{name}_{step}" for step in ("exact", "rounded")]
            graph.node[-1].output[list(node.output).index(name)] = names[0]
            graph.node.append(helper.make_node("Cast", names[:1], names[1:], name=f"{name}_round", to=FP16))
            graph.node.append(helper.make_node("Cast", names[1:], [name], name=f"{name}_back", to=FP32))
    onnx.checker.check_model(result, full_check=True)
    return result, depth[LOGITS]


def _replace_format(node: NodeProto, old: int, new: int) -> None:
    """Replace a format in the attributes of a node."""
    for attribute in node.attribute:
        if (node.op_type, attribute.name) in (("Cast", "to"), ("EyeLike", "dtype")) and attribute.i == old:
            attribute.i = new
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == old:
            values = numpy_helper.to_array(attribute.t).astype(helper.tensor_dtype_to_np_dtype(new))
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _is_converted(node: NodeProto) -> bool:
    """Whether fp16 is possible for a node, and wanted."""
    return node.op_type not in ONLY_FP32 and PROBABILITIES not in node.output


def _loss(values: NDArray[np.generic], scale: float) -> str:
    """Why fp16 cannot hold a constant; empty if it can.

    Args:
        values: The constant.
        scale: Rounding errors count relative to this number, if it is larger than the values.
    """
    if not values.size:
        return ""
    largest = float(np.abs(values).max())
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float64)
    if not np.isfinite(rounded).all():
        return f"a constant of {largest:.3g} is infinite in fp16"
    if np.abs(rounded - values.astype(np.float64)).max() > ROUNDOFF * max(largest, scale):
        loss = "loses digits" if rounded.any() else "is 0"
        return f"a constant of at most {largest:.3g} {loss} in fp16"
    return ""


@dataclass
class _Conversion:
    """The nodes of the new graph, and the format of each tensor.

    Attributes:
        formats: FP32 or FP16 of each tensor that has float numbers, by name.
        fp32: The float constants of the old graph by name.
        outputs: Names of the outputs of the graph, which stay fp32.
        nodes: The new nodes.
        constants: The new constants.
    """

    formats: dict[str, int]
    fp32: dict[str, NDArray[np.generic]]
    outputs: frozenset[str]
    nodes: list[NodeProto]
    constants: list[TensorProto]

    @classmethod
    def of(cls, model: ModelProto) -> _Conversion:
        graph = model.graph
        infos = (*graph.value_info, *graph.output)
        formats = {info.name: FP32 for info in infos if info.type.tensor_type.elem_type == FP32}
        fp32 = {name: values for name, values in constants_of(model).items() if values.dtype == np.float32}
        outputs = frozenset(output.name for output in graph.output)
        return cls(formats | dict.fromkeys(fp32, FP32), fp32, outputs, [], [])

    def convert(self, node: NodeProto, wanted: int) -> None:
        """Add a node that computes in the format ``wanted``."""
        if node.op_type == "Constant":
            self.nodes.append(node)
            return
        for index, name in enumerate(node.input):
            # the scales of Resize are fp32 always
            if name in self.formats and not (node.op_type == "Resize" and index):
                node.input[index] = self._in_format(name, wanted)
        self.nodes.append(node)
        if wanted == FP32:
            return
        _replace_format(node, FP32, FP16)
        for index, name in enumerate(node.output):
            if name not in self.formats:
                continue
            if name in self.outputs:
                node.output[index] = f"{name}_fp16"
                self._cast(node.output[index], name, FP32)
            else:
                self.formats[name] = FP16

    def _in_format(self, name: str, wanted: int) -> str:
        """The name of a tensor's values in a format; they are converted on first use."""
        if self.formats[name] == wanted:
            return name
        converted = f"{name}_{SUFFIX[wanted]}"
        if converted not in self.formats:
            self.formats[converted] = wanted
            if name in self.fp32:
                self.constants.append(numpy_helper.from_array(self.fp32[name].astype(np.float16), converted))
            else:
                self._cast(name, converted, wanted)
        return converted

    def _cast(self, name: str, result: str, wanted: int) -> None:
        self.nodes.append(helper.make_node("Cast", [name], [result], name=f"{result}_cast", to=wanted))
