"""Optional outputs: more outputs of a model file after ``logits`` and ``probabilities``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from cnn_infer.optional_outputs import OPTIONAL_OUTPUTS
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from cnn_export.errors import GraphError


def add_output(
    model: ModelProto,
    output: str,
    shape: Sequence[int],
    nodes: Sequence[NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
) -> ModelProto:
    """Return a copy of a finished graph with one more output, float32 (batch, ``*shape``).

    Nodes are named ``OUTPUT/...`` by their number. cnn_infer recognises by the names which parts of the graph belong to
    the output, and takes them out if nobody asks for it (:mod:`cnn_infer.optional_outputs`). So the new nodes may read
    the tensors of the graph, but the graph never reads theirs.

    Args:
        model: Graph with the inputs and outputs of the model file, from
            :func:`cnn_export.graph.float_graph.keep_contract`, or already with an optional output before this one.
        output: Name of the output, one of :data:`cnn_infer.optional_outputs.OPTIONAL_OUTPUTS`.
        shape: Shape of the output without the batch.
        nodes: The nodes that compute it, in order. One of them makes the tensor ``output``. All other tensors that they
            make must be called ``OUTPUT/...``.
        constants: Their constants by name, ``OUTPUT/...``.

    Raises:
        GraphError: a tensor or a constant has another name, or the outputs are not in the order of the contract.
    """
    own = f"{output}/"
    made = [name for node in nodes for name in node.output]
    strangers = [name for name in (*made, *constants) if name != output and not name.startswith(own)]
    if strangers or made.count(output) != 1:
        raise GraphError(
            f"the tensors of the output {output} must be called {own}...: {', '.join(strangers) or output}"
        )
    order = [found.name for found in model.graph.output if found.name in OPTIONAL_OUTPUTS] + [output]
    if order != sorted(set(order), key=list(OPTIONAL_OUTPUTS).index):
        raise GraphError(
            f"optional outputs come once, in the order {', '.join(OPTIONAL_OUTPUTS)}: not {', '.join(order)}"
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for number, node in enumerate(nodes):
        graph.node.append(node)
        graph.node[-1].name = f"{own}{number}_{node.op_type}"
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape]))
    onnx.checker.check_model(result, full_check=True)
    return result
