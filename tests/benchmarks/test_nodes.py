"""benchmarks/nodes.py counts the multiply-adds of a convolution correctly, wherever ONNX Runtime keeps the channels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "nodes.py"
SIDE, CHANNELS = 8, 4


def convolution() -> onnx.ModelProto:
    """An int8 model with one 3x3 convolution on pictures of 8x8 with 4 channels: fewer channels than rows."""
    weights = np.ones((CHANNELS, CHANNELS, 3, 3), np.int8)
    constants = [
        helper.make_tensor("w", TensorProto.INT8, weights.shape, weights.tobytes(), raw=True),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
        helper.make_tensor("zero_w", TensorProto.INT8, [], [0]),
    ]
    inputs = ["x", "scale", "zero", "w", "scale", "zero_w", "scale", "zero"]
    nodes = [
        helper.make_node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("QLinearConv", inputs, ["probabilities"], pads=[1, 1, 1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, CHANNELS])
    output = helper.make_tensor_value_info("probabilities", TensorProto.UINT8, ["n", CHANNELS, SIDE, SIDE])
    graph = helper.make_graph(nodes, "g", [image], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_convolution_with_fewer_channels_than_rows(tmp_path: Path) -> None:
    onnx.save(convolution(), tmp_path / "model.onnx")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "model.onnx"), "--batch", "2"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = [line.split() for line in printed.splitlines() if " QLinearConv " in line]
    assert line[2] == f"{SIDE * SIDE * 9 * CHANNELS * CHANNELS / 1e6:.2f}"
