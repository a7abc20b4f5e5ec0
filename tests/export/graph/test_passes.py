"""Rewrites of graphs."""

import numpy as np
import onnxruntime
from cnn_export.graph.passes import strip_unused
from onnx import TensorProto, helper, numpy_helper


def test_what_only_a_branch_reads_is_kept() -> None:
    """And a node, a constant and a domain that nothing reads are not."""
    tensor = helper.make_tensor_value_info
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, inputs, [f"{name}_result"], domain=domain)],
            name,
            [],
            [tensor(f"{name}_result", TensorProto.FLOAT, None)],
        )
        for name, operator, inputs, domain in (
            ("then_branch", "Add", ["doubled", "one"], ""),
            ("else_branch", "Gelu", ["doubled"], "com.microsoft"),
        )
    }
    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("Mul", ["x", "two"], ["first_of_two"]),
        helper.make_node("Neg", ["first_of_two"], ["second_of_two"]),
        helper.make_node("If", ["positive"], ["y"], **branches),
    ]
    constants = {"one": 1.0, "two": 2.0}
    graph = helper.make_graph(
        nodes,
        "graph",
        [tensor("x", TensorProto.FLOAT, [1]), tensor("positive", TensorProto.BOOL, [])],
        [tensor("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32([value]), name) for name, value in constants.items()],
    )
    domains = [
        helper.make_opsetid(domain, version) for domain, version in (("", 20), ("com.microsoft", 1), ("ai.x", 1))
    ]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    strip_unused(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "If"]
    assert [constant.name for constant in model.graph.initializer] == ["one"]
    assert [entry.domain for entry in model.opset_import] == ["", "com.microsoft"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.float32([3]), "positive": np.array(True)})
    assert found.tolist() == [7]
