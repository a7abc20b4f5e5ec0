"""The graph that ONNX Runtime runs after its own optimisation, and the nodes in it that are still fp32."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from cnn_infer.runtime import load_runtime
from onnx import ModelProto, NodeProto, TensorProto

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import consumers_of, makers_of

BY_PAIR = frozenset({"DequantizeLinear", "QuantizeLinear"})
FOLLOWERS = BY_PAIR | {"ReorderInput", "ReorderOutput", "Transpose", "Relu", "Clip", "MaxPool", "GlobalAveragePool"}
"""Operators that may stay in fp32 next to an fp32 layer, because converting their input would cost more."""

_Neighbours = Callable[[NodeProto], list[NodeProto]]


@dataclass(frozen=True)
class Stray:
    """A node in fp32 between quantized nodes.

    Attributes:
        name: Name of the node in the optimised graph.
        operator: Its operator, such as ``Sigmoid``.
        reason: Why it is in fp32, for the user.
    """

    name: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}): {self.reason}"


def optimised(data: bytes) -> ModelProto:
    """Return the graph that ONNX Runtime runs on this machine, with fused and rewritten nodes.

    Args:
        data: Content of a model file.

    Raises:
        GraphError: ONNX Runtime cannot load the model.
        DeviceError: ONNX Runtime is not installed.
    """
    runtime = load_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="cnn-export-") as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        try:
            runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise GraphError(f"ONNX Runtime cannot load the exported model: {reason}") from error
        return onnx.load(options.optimized_model_filepath)


def strays(running: ModelProto, floats: Iterable[str] = ()) -> list[Stray]:
    """Return the fp32 nodes between quantized nodes.

    Args:
        running: Result of :func:`optimised`.
        floats: Names of the nodes that are kept in fp32 on purpose, and of their output tensors, because ONNX Runtime
            names fused nodes after either. They and the conversions next to them are not returned.
    """
    graph = running.graph
    kinds = _kinds(running)
    makers, users = makers_of(running), consumers_of(running)

    def before(node: NodeProto) -> list[NodeProto]:
        return [makers[name] for name in node.input if name in makers]

    def after(node: NodeProto) -> list[NodeProto]:
        return [user for name in node.output for user in users.get(name, [])]

    quantized = [node for node in graph.node if _computes_in_integers(node, kinds)]
    between = _reached(quantized, before) & _reached(quantized, after)
    intended = _intended(graph.node, set(floats), lambda node: before(node) + after(node))
    found = []
    for node in graph.node:
        if id(node) not in between or any(node is one for one in quantized):
            continue
        if not _touches_floats(node, kinds) or id(node) in intended:
            continue
        reason = (
            "a conversion that ONNX Runtime did not merge into its neighbours"
            if node.op_type in BY_PAIR
            else "ONNX Runtime did not replace it by an int8 node"
        )
        found.append(Stray(node.name or node.output[0], node.op_type, reason))
    return found


def _kinds(running: ModelProto) -> dict[str, int]:
    """Return the element type of each tensor.

    Operators of ONNX Runtime's own domain have no stored types; theirs follow from the operator.
    """
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*running.graph.input, *running.graph.value_info)}
    kinds |= {tensor.name: tensor.data_type for tensor in running.graph.initializer}
    for node in running.graph.node:
        if node.op_type == "DequantizeLinear":
            kind = TensorProto.FLOAT
        elif node.op_type == "QuantizeLinear":
            kind = kinds.get(node.input[2], TensorProto.UINT8) if len(node.input) > 2 else TensorProto.UINT8
        elif node.op_type == "QGemm":
            last = node.input[8] if len(node.input) > 8 else ""
            kind = kinds.get(last, TensorProto.FLOAT) if last else TensorProto.FLOAT
        elif node.op_type in ("ConvInteger", "MatMulInteger"):
            kind = TensorProto.INT32
        else:
            kind = kinds.get(node.input[0], TensorProto.FLOAT) if node.input else TensorProto.FLOAT
        for name in node.output:
            kinds.setdefault(name, kind)
    return kinds


def _computes_in_integers(node: NodeProto, kinds: dict[str, int]) -> bool:
    if node.op_type in BY_PAIR or not node.input:
        return False
    return kinds.get(node.input[0], TensorProto.FLOAT) in (TensorProto.UINT8, TensorProto.INT8)


def _touches_floats(node: NodeProto, kinds: dict[str, int]) -> bool:
    return any(kinds.get(name, TensorProto.FLOAT) == TensorProto.FLOAT for name in (*node.input[:1], *node.output))


def _intended(nodes: Iterable[NodeProto], wanted: set[str], neighbours: _Neighbours) -> set[int]:
    """Return the ids of the nodes kept in fp32, and of the chains of :data:`FOLLOWERS` next to them."""
    named = [node for node in nodes if any(_is_called(node, name) for name in wanted)]
    followers = _reached(named, lambda node: [one for one in neighbours(node) if one.op_type in FOLLOWERS])
    return {id(node) for node in named} | followers


def _is_called(node: NodeProto, name: str) -> bool:
    """Whether a node has a name, or that name with a suffix of ONNX Runtime, such as ``_nchwc`` or ``_token_2``.

    A number alone is no suffix of ONNX Runtime: ``relu_1`` is another layer than ``relu``.
    """
    called = re.compile(re.escape(name) + r"(_\D.*)?")
    return any(called.fullmatch(own) for own in (node.name, *node.output))


def _reached(starts: list[NodeProto], neighbours: _Neighbours) -> set[int]:
    seen: set[int] = set()
    waiting = list(starts)
    while waiting:
        for node in neighbours(waiting.pop()):
            if id(node) not in seen:
                seen.add(id(node))
                waiting.append(node)
    return seen
