"""The normalisation that a network from elsewhere expects, computed from the one of the model contract.

The contract has one zero point and one scale for all channels; other networks have a mean and a deviation for each
channel. The difference is a gain and a shift per channel. They become a part of the first convolution where that is
exact, at the border of the picture too.

A convolution pads *normalised* pictures with 0, which is the mean colour. A shift that is merely added to its bias is
wrong at the border. Therefore a padding convolution gets one more input channel, which is constant inside the picture
and 0 in the padding, and whose weights are the shift. It consists of bytes, like the picture, so the first layer of an
int8 model still reads raw bytes.
"""

from __future__ import annotations

import numpy as np
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from cnn_export.graph.float_graph import NORMALISED
from cnn_export.graph.lookup import attribute_of, constants_of, consumers_of
from cnn_export.graph.passes import strip_unused

OWN_LAYER = "normalise_channels"
"""Name of the node that normalises, where no convolution can do it."""


def normalise_input(model: ModelProto, gain: NDArray[np.float64], shift: NDArray[np.float64], spec: Spec) -> bool:
    """Let a float graph compute ``gain * input + shift`` first. The model is changed in place.

    Args:
        model: Float graph whose :data:`NORMALISED` input is what the network expects.
        gain: float64 (channels,).
        shift: float64 (channels,).
        spec: Specification of the model: its input will be :data:`NORMALISED`.

    Returns:
        Whether no extra layer is needed. Otherwise a 1x1 convolution per channel was added, named :data:`OWN_LAYER`.
        It is exact as well and costs time. This happens if the input is read by another layer than one ungrouped
        convolution with constant weights, which may follow a padding with zeros.
    """
    if np.all(gain == 1) and not shift.any():
        return True
    found = _first_convolution(model)
    if found is None:
        _add_layer(model, gain, shift)
        return False
    conv, pad = found
    constants = constants_of(model)
    weight = constants[conv.input[1]].astype(np.float64)
    bias = constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
    shifted = np.tensordot(weight, shift, axes=(1, 0))[:, None]  # (filters, 1, height, width)
    weight = weight * gain[:, None, None]
    if shift.any() and (pad is not None or any(attribute_of(conv, "pads", [0]))):
        value = _indicator(spec)
        weight = np.concatenate([weight, shifted / value], axis=1)
        _add_channel(model, pad or conv, value)
    else:
        bias = bias + shifted.sum(axis=(1, 2, 3))
    names = [f"{conv.output[0]}_normalised_{what}" for what in ("weight", "bias")]
    for name, values in zip(names, (weight, bias), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    conv.input[1:] = names
    strip_unused(model)
    return True


def _first_convolution(model: ModelProto) -> tuple[NodeProto, NodeProto | None] | None:
    """The convolution that alone reads the input, and the Pad before it, if any; None if there is no such convolution.

    The Pad must add zeros to height and width only.
    """
    constants, consumers = constants_of(model), consumers_of(model)
    tensor, pad = NORMALISED, None
    readers = consumers.get(tensor, [])
    if len(readers) == 1 and readers[0].op_type == "Pad" and _pads_with_zeros(readers[0], constants):
        pad = readers[0]
        tensor = pad.output[0]
        readers = consumers.get(tensor, [])
    if len(readers) != 1 or readers[0].op_type != "Conv" or readers[0].input[0] != tensor:
        return None
    conv = readers[0]
    foldable = (
        attribute_of(conv, "group", 1) == 1
        and attribute_of(conv, "auto_pad", b"NOTSET") == b"NOTSET"
        and all(name in constants for name in conv.input[1:])
    )
    return (conv, pad) if foldable else None


def _pads_with_zeros(node: NodeProto, constants: dict[str, NDArray[np.generic]]) -> bool:
    pads = constants.get(node.input[1])
    others = [name for name in node.input[2:] if name]
    if pads is None or len(pads) != 8 or len(others) > 1 or attribute_of(node, "mode", b"constant") != b"constant":
        return False
    return not pads[[0, 1, 4, 5]].any() and not any(name not in constants or constants[name].any() for name in others)


def _indicator(spec: Spec) -> float:
    """The normalised value of the pixel value that is farthest from the zero point, so that its weights are small."""
    return ((255 if spec.zero_point < 128 else 0) - spec.zero_point) * spec.scale


def _add_channel(model: ModelProto, reader: NodeProto, value: float) -> None:
    """Append a constant channel to the input of ``reader``."""
    graph = model.graph
    widened = f"{NORMALISED}_and_inside"
    pads = np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64)
    graph.initializer.append(numpy_helper.from_array(pads, f"{widened}_pads"))
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), f"{widened}_value"))
    inputs = [NORMALISED, f"{widened}_pads", f"{widened}_value"]
    reader.input[0] = widened
    graph.node.insert(0, helper.make_node("Pad", inputs, [widened], name=widened))
    del graph.value_info[:]  # the shapes after a spatial padding are outdated


def _add_layer(model: ModelProto, gain: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    graph = model.graph
    for node in graph.node:
        node.input[:] = [OWN_LAYER if name == NORMALISED else name for name in node.input]
    weight = gain.reshape(-1, 1, 1, 1).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, f"{OWN_LAYER}_weight"))
    graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), f"{OWN_LAYER}_bias"))
    inputs = [NORMALISED, f"{OWN_LAYER}_weight", f"{OWN_LAYER}_bias"]
    layer = helper.make_node("Conv", inputs, [OWN_LAYER], name=OWN_LAYER, group=len(gain), kernel_shape=[1, 1])
    graph.node.insert(0, layer)
