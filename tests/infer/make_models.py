"""Writes models/*.onnx, the models of the tests. They are so small that a few lines of NumPy predict their outputs.

    python tests/infer/make_models.py [FOLDER]

Needs the onnx package; the tests do not. ``grey.onnx`` classifies pictures as dark, middle or bright by their mean,
``rgb.onnx`` by their dominant colour. ``optional.onnx`` is ``rgb.onnx`` with the optional outputs. The others break the
contract, each in one way.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cnn_infer import Spec
from cnn_infer.proof.golden import pack
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "models"
ZERO_POINT, SCALE = 128, 1 / 64

# logits = means @ WEIGHTS + BIAS, where means are of (pixel - ZERO_POINT) * SCALE, one for each channel
GREY = (("dark", "middle", "bright"), np.array([[-4, 0, 4]], np.float32), np.array([0, 2, 0], np.float32))
RGB = (
    ("red", "green", "blue", "grey"),
    np.array([[4, -2, -2, 0], [-2, 4, -2, 0], [-2, -2, 4, 0]], np.float32),
    np.array([0, 0, 0, 2], np.float32),
)
EVIDENCE = {
    "cells": [8, 8],
    "bias": RGB[2].tolist(),
    "receptive_field": {"start": [0, 0], "size": [1, 1], "step": [1, 1], "whole_picture": False},
}
"""What an export says about the output ``evidence``: here, each pixel is a cell."""

Head = tuple[tuple[str, ...], np.ndarray, np.ndarray]


def expected(pictures: np.ndarray, head: Head) -> np.ndarray:
    """The probabilities for pictures, uint8 (n, h, w, c), computed with NumPy."""
    _, weights, bias = head
    logits = ((pictures.astype(np.float64) - ZERO_POINT) * SCALE).mean(axis=(1, 2)) @ weights + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def graph(head: Head, batch: int | str = "batch", fixed_rows: int = 0) -> onnx.ModelProto:
    """A model: uint8 NHWC, DequantizeLinear, transpose to NCHW, mean, linear layer, softmax."""
    classes, weights, bias = head
    constants = {
        "scale": np.array(SCALE, np.float32),
        "zero_point": np.array(ZERO_POINT, np.uint8),
        "weights": weights,
        "bias": bias,
        "flat": np.array([fixed_rows or -1, len(weights)], np.int64),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "scale", "zero_point"], ["real"]),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["planes"], ["means"]),
        helper.make_node("Reshape", ["means", "flat"], ["vector"]),
        helper.make_node("Gemm", ["vector", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, len(classes)])
        for name in ("logits", "probabilities")
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 8, 8, len(weights)])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "means", [image], outputs, tensors)
    return helper.make_model(
        body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9, producer_name="make_models"
    )


def with_optional_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the part of each pixel in each logit, and the largest absolute value as strangeness."""
    body = model.graph
    constants = {
        "evidence/axes": np.array([2, 3], np.int64),
        "evidence/pixels": np.array(64, np.float32),
        "strangeness/axes": np.array([1, 2, 3], np.int64),
    }
    body.node.extend(
        [
            helper.make_node("Transpose", ["weights"], ["evidence/rows"], "evidence/0", perm=[1, 0]),
            helper.make_node("Unsqueeze", ["evidence/rows", "evidence/axes"], ["evidence/kernel"], "evidence/1"),
            helper.make_node("Div", ["planes", "evidence/pixels"], ["evidence/shares"], "evidence/2"),
            helper.make_node("Conv", ["evidence/shares", "evidence/kernel"], ["evidence"], "evidence/3"),
            helper.make_node("Abs", ["planes"], ["strangeness/sizes"], "strangeness/0"),
            helper.make_node(
                "ReduceMax", ["strangeness/sizes", "strangeness/axes"], ["strangeness"], "strangeness/1", keepdims=0
            ),
        ]
    )
    body.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    classes = body.output[0].type.tensor_type.shape.dim[1].dim_value
    body.output.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, ["batch", classes, 8, 8]))
    body.output.append(helper.make_tensor_value_info("strangeness", TensorProto.FLOAT, ["batch"]))
    return model


def contract(model: onnx.ModelProto, head: Head, pictures: np.ndarray, **details: Any) -> onnx.ModelProto:
    """Add a specification and golden pictures to a model."""
    spec = Spec(
        classes=head[0],
        height=8,
        width=8,
        colour="grey" if len(head[1]) == 1 else "rgb",
        resize="squash",
        filter="bilinear",
        zero_point=ZERO_POINT,
        scale=SCALE,
        details={"precision": "fp32", "made_by": "tests/infer/make_models.py", **details},
    )
    golden = pack(pictures, expected(pictures, head))
    helper.set_model_props(model, {"cnn.spec": spec.to_json(), "cnn.golden": golden})
    return model


def with_outside_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move a model's weights to another file, ``outside.data`` in the same folder."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    data = numpy_helper.to_array(tensor).tobytes()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "outside.data", "offset": "0", "length": str(len(data))}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def build() -> dict[str, onnx.ModelProto]:
    """Return every model by its file name."""
    ramp = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    grey = np.concatenate([ramp, ramp + 96, ramp + 192])
    rgb = np.zeros((4, 8, 8, 3), np.uint8)
    rgb[[0, 1, 2], :, :, [0, 1, 2]] = 160
    rgb[3] = ramp[0] + 90
    return {
        "grey.onnx": contract(graph(GREY), GREY, grey),
        "rgb.onnx": contract(graph(RGB), RGB, rgb),
        "optional.onnx": contract(with_optional_outputs(graph(RGB)), RGB, rgb, evidence=EVIDENCE),
        "foreign.onnx": graph(GREY),
        "outside.onnx": contract(with_outside_weights(graph(RGB)), RGB, rgb),
        "one_at_a_time.onnx": contract(graph(GREY, batch=1), GREY, grey),
        "fails_in_batches.onnx": contract(graph(GREY, fixed_rows=1), GREY, grey),
    }


def main(folder: Path) -> None:
    """Write all models."""
    for name, model in build().items():
        (folder / name).write_bytes(model.SerializeToString(deterministic=True))
        print(folder / name, (folder / name).stat().st_size, "bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
