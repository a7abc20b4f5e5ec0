"""A node in fp32 between quantized nodes is found in the optimised graph, and named."""

import onnx
import pytest
from cnn_export import GraphError, export
from cnn_export.graph.runtime_graph import optimised, strays
from cnn_train import Run
from onnx import helper


@pytest.fixture
def int8(run: Run) -> onnx.ModelProto:
    result = export(run, quantize=True, search_seconds=0)
    assert result.int8 is not None
    return onnx.load(run.path / result.int8.file)


def test_an_exported_model_has_none(int8: onnx.ModelProto) -> None:
    running = optimised(int8.SerializeToString())
    assert sum(node.op_type == "QLinearConv" for node in running.graph.node) >= 4
    assert strays(running) == []


def test_a_planted_slow_node_is_named(int8: onnx.ModelProto) -> None:
    """An operator without an int8 kernel between the second and the third convolution."""
    graph = int8.graph
    reader = [node for node in graph.node if node.op_type == "Conv"][2]
    graph.node.insert(
        list(graph.node).index(reader), helper.make_node("Abs", [reader.input[0]], ["planted"], name="planted")
    )
    reader.input[0] = "planted"
    onnx.checker.check_model(int8, full_check=True)
    running = optimised(int8.SerializeToString())
    found = strays(running)
    assert "Abs" in {stray.operator for stray in found}
    assert any("planted" in str(stray) for stray in found)
    names = {stray.name for stray in found if stray.operator not in ("DequantizeLinear", "QuantizeLinear")}
    assert strays(running, names) == []
    # the first layer is in fp32 on purpose: the names of the others begin with its name
    assert any(stray.name.startswith("relu_2_") for stray in found)
    assert strays(running, {"node_relu", "relu"}) == found


def test_a_stray_is_in_the_report_and_the_summary(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnn_export.graph.runtime_graph import Stray
    from cnn_export.int8 import search
    from cnn_export.summary import int8_lines

    monkeypatch.setattr(search, "strays", lambda *_: [Stray("slow", "Elu", "no int8 kernel")])
    result = export(run, quantize=True, search_seconds=0)
    assert result.int8 is not None
    assert result.int8.strays == ("slow (Elu): no int8 kernel",)
    assert any("slow (Elu)" in line for line in int8_lines(result.int8))


def test_a_model_that_onnxruntime_rejects_is_an_error(int8: onnx.ModelProto) -> None:
    int8.graph.node[3].op_type = "NoSuchOperator"
    with pytest.raises(GraphError, match="cannot load the exported model"):
        optimised(int8.SerializeToString())
