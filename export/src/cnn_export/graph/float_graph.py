"""Export from PyTorch: the float graph, the graph that keeps the model contract, and the file."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout

import numpy as np
import onnx
import torch
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES, SPEC_KEY
from cnn_infer.spec import Spec
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from cnn_export.errors import GraphError
from cnn_export.graph.lookup import constants_of
from cnn_export.graph.passes import (
    fold_batch_norm,
    leading_moves,
    pixel_of,
    replace_global_means,
    scale_logits,
    strip_unused,
)
from cnn_export.options import OPSET

IR_VERSION = 9
"""ONNX Runtime versions of 2024 load it; PyTorch's exporter writes 10, which they reject. Opsets after 20 need more."""

NORMALISED = "normalised"
"""Name of the float graph's input: (pixel - zero_point) * scale, float32 (batch, channels, height, width)."""


def float_graph(network: nn.Module, spec: Spec, opset: int = OPSET) -> ModelProto:
    """Return the network as a graph from :data:`NORMALISED` to ``logits``, divided by the temperature.

    Batch norm is folded into the convolutions, and global means are GlobalAveragePool, so the graph can be quantized.

    Args:
        network: The trained network.
        spec: Specification of the model: input size and temperature.
        opset: Version of the ONNX operators.

    Raises:
        GraphError: PyTorch cannot export the network, or wrote another opset.
    """
    example = torch.zeros(2, spec.channels, spec.height, spec.width)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # hides warnings about operators of libraries that are not installed
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                input_names=[NORMALISED],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise GraphError(f"PyTorch cannot export this network: {_root_cause(error)}") from error
    finally:
        logger.setLevel(level)
    if program is None:
        raise GraphError("PyTorch's exporter returned nothing")
    model: ModelProto = program.model_proto
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") != opset:
        raise GraphError(
            f"PyTorch's exporter wrote opset {opsets.get('')} instead of {opset}: pass opset (--opset) {opsets.get('')}"
        )
    fold_batch_norm(model)
    replace_global_means(model)
    scale_logits(model, LOGITS, 1 / spec.temperature)
    strip_unused(model)
    return model


def _root_cause(error: BaseException) -> str:
    """The error that the exporter wraps in general advice, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join(str(error).split())[:300]
    return f"a condition in its code depends on the pictures ({reason})" if "data-dependent" in reason else reason


def keep_contract(model: ModelProto, spec: Spec) -> ModelProto:
    """Return a copy of ``model`` with the input and outputs of the model contract.

    The input is raw pixels. The normalisation is a DequantizeLinear; in a quantized graph it is the input scale of the
    first convolution.

    Args:
        model: Float graph, or its quantized form.
        spec: Specification of the model: normalisation, input shape and classes.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    moves, stem = leading_moves(result, NORMALISED, spec)
    constants = constants_of(result)
    planes = f"{INPUT}_planes"
    scale = numpy_helper.from_array(np.array(spec.scale, np.float32), "pixel_scale")
    zero_point = numpy_helper.from_array(np.array(spec.zero_point, np.uint8), "pixel_zero_point")
    graph.initializer.extend([scale, zero_point])
    for node in moves:
        _move_bytes(node, planes, stem)
        if node.op_type == "Pad":
            filler = pixel_of(constants.get(node.input[2]) if len(node.input) > 2 else None, spec)
            value = zero_point.name
            if filler != spec.zero_point:
                value = f"{node.output[0]}_filler"
                graph.initializer.append(numpy_helper.from_array(np.array(filler, np.uint8), value))
            node.input[:] = [*node.input[:2], value, *node.input[3:]]
    pixels = f"{stem}_bytes" if moves else planes
    # a quantized graph first quantizes its input, which raw pixels do not need
    for quantize in [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == stem]:
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] == quantize.output[0]:
                node.input[:] = [pixels, scale.name, zero_point.name]
        graph.node.remove(quantize)
    first = [helper.make_node("Transpose", [INPUT], [planes], name="channels_first", perm=[0, 3, 1, 2]), *moves]
    rest = [node for node in graph.node if not any(node is one for one in moves)]
    if any(stem in node.input for node in rest):
        inputs = [pixels, scale.name, zero_point.name]
        first.append(helper.make_node("DequantizeLinear", inputs, [stem], name="normalise"))
    nodes = [*first, *rest, helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name="softmax", axis=1)]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    classes = len(spec.classes)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *spec.shape]))
    for name in (LOGITS, PROBABILITIES):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]))
    del graph.value_info[:]
    graph.name = "edgecnn"
    # the exporter stores the source of each node, with file paths of this machine
    for noted in (graph, *graph.node):
        del noted.metadata_props[:]
    result.ir_version = max(IR_VERSION, helper.find_min_ir_version_for(result.opset_import))
    result.producer_name = "cnn-export"
    strip_unused(result)
    onnx.checker.check_model(result, full_check=True)
    return result


def _move_bytes(node: NodeProto, planes: str, stem: str) -> None:
    """Change a node that moves normalised values to move raw pixels."""
    for index, name in enumerate(node.input):
        if name == NORMALISED:
            node.input[index] = planes
    for index, name in enumerate(node.output):
        if name == stem:
            node.output[index] = f"{stem}_bytes"


def with_metadata(model: ModelProto, spec: Spec, others: Mapping[str, str] | None = None) -> bytes:
    """Return the content of the model file: the graph, its specification, and what other readers look for.

    Args:
        model: The graph; its metadata is replaced.
        spec: Specification of the model.
        others: Metadata for ``cnn_infer`` besides the specification.
    """
    names = dict(enumerate(spec.classes))
    helper.set_model_props(
        model,
        {
            SPEC_KEY: spec.to_json(),
            **(others or {}),
            "names": repr(names),
            "task": "classify",
            "imgsz": repr([spec.height, spec.width]),
            "Image.BitmapPixelFormat": "Gray8" if spec.colour == "grey" else "Rgb8",
            "Image.NominalPixelRange": "NominalRange_0_255",
        },
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data
