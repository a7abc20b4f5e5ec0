"""The graph that ONNX Runtime really runs, after its own optimisation: what in it is still float?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto

from cnn_export.errors import GraphError
from cnn_export.graph.passes import consumers_of, makers_of

INTEGERS = frozenset({TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})

BY_PAIR = frozenset({"DequantizeLinear", "QuantizeLinear"})
FOLLOWERS = BY_PAIR | {"ReorderInput", "ReorderOutput", "Transpose", "Relu", "Clip", "MaxPool", "GlobalAveragePool"}
"""What stays float beside a float layer, as converting would cost more than it brings."""

_Neighbours = Callable[[NodeProto], list[NodeProto]]


@dataclass(frozen=True)
class Stray:
    """A float node with quantised ones before and behind it.

    Attributes:
        name: Of the node, in the graph that runs.
        operator: Such as ``Sigmoid``.
        reason: Why it is float, for people.
    """

    name: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}): {self.reason}"


def optimised(data: bytes) -> ModelProto:
    """What a session makes of a model on this machine, with fused and rewritten nodes.

    Raises:
        GraphError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory(prefix="cnn-export-") as folder:
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        try:
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise GraphError(f"ONNX Runtime cannot load what was exported: {reason}") from error
        return onnx.load(options.optimized_model_filepath)


def strays(running: ModelProto, floats: Iterable[str] = ()) -> list[Stray]:
    """The float nodes between quantised ones.

    Args:
        running: From :func:`optimised`.
        floats: Names of nodes that are float on purpose, and of the tensors that they make: fused nodes are called
            after either. What converts to and from them is float on purpose as well.
    """
    graph = running.graph
    kinds = _kinds(running)
    makers, users = makers_of(running), consumers_of(running)

    def before(node: NodeProto) -> list[NodeProto]:
        return [makers[name] for name in node.input if name in makers]

    def behind(node: NodeProto) -> list[NodeProto]:
        return [user for name in node.output for user in users.get(name, [])]

    quantised = [node for node in graph.node if _computes_in_integers(node, kinds)]
    between = _reached(quantised, before) & _reached(quantised, behind)
    meant = _meant(graph.node, set(floats), lambda node: before(node) + behind(node))
    found = []
    for node in graph.node:
        if id(node) not in between or any(node is one for one in quantised):
            continue
        if not _touches_floats(node, kinds) or id(node) in meant:
            continue
        reason = (
            "a conversion that ONNX Runtime did not merge into its neighbours"
            if node.op_type in BY_PAIR
            else "ONNX Runtime did not make an int8 node of it"
        )
        found.append(Stray(node.name or node.output[0], node.op_type, reason))
    return found


def _kinds(running: ModelProto) -> dict[str, int]:
    """Element types by tensor: as stored where they are, else by operator (those of ONNX Runtime's own domain)."""
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


def _meant(nodes: Iterable[NodeProto], wanted: set[str], neighbours: _Neighbours) -> set[int]:
    """The nodes that are to be float, and what follows or converts for them, also several in a row."""
    named = [node for node in nodes if any(_is_called(node, name) for name in wanted)]
    followers = _reached(named, lambda node: [one for one in neighbours(node) if one.op_type in FOLLOWERS])
    return {id(node) for node in named} | followers


def _is_called(node: NodeProto, name: str) -> bool:
    return any(own == name or own.startswith(f"{name}_") for own in (node.name, *node.output))


def _reached(starts: list[NodeProto], neighbours: _Neighbours) -> set[int]:
    seen: set[int] = set()
    waiting = list(starts)
    while waiting:
        for node in neighbours(waiting.pop()):
            if id(node) not in seen:
                seen.add(id(node))
                waiting.append(node)
    return seen
