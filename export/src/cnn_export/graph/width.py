"""The first int8 convolution of our presets, on four neighbouring pixels at a time.

For pictures of at most 48 pixels a side, the presets begin with four shifted copies of the picture and a 1x1
convolution of them. ONNX Runtime's int8 convolution builds one pointer for each output pixel and place of the kernel,
and the copies take seven nodes. In NHWC order the bytes of four neighbouring pixels are also the channels of one wide
pixel, and no byte has to move. A sparse 2x2 convolution of wide pixels computes the same sums of the same products,
with a quarter of the pointers and without the copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cnn_infer.model import INPUT
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from cnn_export.graph.lookup import attribute_of, constants_of, consumers_of, makers_of
from cnn_export.graph.passes import strip_unused

PIXELS = 4
"""Pixels in a wide pixel. The kernel is fast if the number of input channels is a multiple of 4."""

COPIES = frozenset({"Transpose", "Pad", "Slice", "Concat"})
"""Operators that the four copies are made with."""

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class _Stem:
    """The nodes from the first convolution to its int8 output, and the shape of a picture.

    Attributes:
        pixels: The DequantizeLinear of the four copies, which is the normalisation.
        convolution: The 1x1 convolution.
        quantize: The QuantizeLinear of its output.
        dequantize: The DequantizeLinear of that.
        shape: (height, width, channels) of a picture.
    """

    pixels: NodeProto
    convolution: NodeProto
    quantize: NodeProto
    dequantize: NodeProto
    shape: tuple[int, int, int]


def widen_pixels(model: ModelProto) -> bool:
    """Let the first int8 convolution read wide pixels, in place, and return whether the graph has the form for it.

    The outputs keep their bits. A graph is left as it is if its width is not a multiple of :data:`PIXELS`, if it does
    not begin as our presets for small pictures do, or if its first convolution is in fp32.

    Args:
        model: A quantized graph from :func:`cnn_export.graph.float_graph.keep_contract`.
    """
    stem = _stem(model)
    if stem is None or stem.shape[1] % PIXELS or not _reads_shifted_copies(model, stem):
        return False
    graph, constants, makers = model.graph, constants_of(model), makers_of(model)
    height, width, channels = stem.shape
    convolution = stem.convolution
    names = [makers[name].input for name in convolution.input[1:]]
    weight = constants[names[0][0]]
    filters = len(weight)
    changed = {names[0][0]: wide_weight(weight.reshape(filters, 2, 2, channels))}
    for name in (*names[0][1:], *(name for bias in names[1:] for name in bias)):
        if constants[name].ndim:  # one value for each filter
            changed[name] = np.tile(constants[name], PIXELS)
    for tensor in graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    del convolution.attribute[:]
    pads = {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    convolution.attribute.extend(helper.make_attribute(key, value) for key, value in pads.items())
    wide, narrow = "wide_pixels", stem.quantize.output[0]
    shapes = {
        f"{wide}_shape": (-1, height, width // PIXELS, PIXELS * channels),
        f"{narrow}_shape": (-1, height, width, filters),
    }
    graph.initializer.extend(numpy_helper.from_array(np.array(shape, np.int64), key) for key, shape in shapes.items())
    stem.pixels.input[0] = f"{wide}_planes"
    stem.pixels.output[0] = convolution.input[0] = f"{wide}_normalised"  # the old name is that of the copies
    stem.dequantize.input[0] = f"{narrow}_planes"
    before = [*_reshaped(INPUT, wide, f"{wide}_shape")]
    # convolutions run in NHWC order, where the first transposition of these two cancels with that of the convolution
    first = helper.make_node("Transpose", [narrow], [f"{narrow}_rows"], name=f"{narrow}_rows", perm=[0, 2, 3, 1])
    after = [first, *_reshaped(f"{narrow}_rows", narrow, f"{narrow}_shape")]
    nodes = list(graph.node)
    place = next(index for index, node in enumerate(nodes) if node is stem.dequantize)
    nodes = [*before, *nodes[:place], *after, *nodes[place:]]
    del graph.node[:]
    graph.node.extend(nodes)
    strip_unused(model)
    return True


def wide_weight(weight: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the weight of the 2x2 convolution of wide pixels that equals a 2x2 convolution of pixels.

    Args:
        weight: (filters, 2, 2, channels): rows, columns, channels of a pixel.

    Returns:
        (PIXELS * filters, PIXELS * channels, 2, 2), the filters of the first pixel first. Most of it is 0.
    """
    filters, _, _, channels = weight.shape
    wide = np.zeros((PIXELS, filters, PIXELS, channels, 2, 2), weight.dtype)
    for pixel in range(PIXELS):
        for right in (0, 1):
            place, within = divmod(pixel + right, PIXELS)
            wide[pixel, :, within, :, :, place] = weight[:, :, right].transpose(0, 2, 1)
    return wide.reshape(PIXELS * filters, PIXELS * channels, 2, 2)


def _reshaped(source: str, name: str, shape: str) -> Iterator[NodeProto]:
    """The nodes that give values in NHWC order another shape, and then NCHW order."""
    yield helper.make_node("Reshape", [source, shape], [f"{name}_reshaped"], name=f"{name}_reshaped")
    yield helper.make_node(
        "Transpose", [f"{name}_reshaped"], [f"{name}_planes"], name=f"{name}_planes", perm=[0, 3, 1, 2]
    )


def _stem(model: ModelProto) -> _Stem | None:
    """The stem of a graph whose first convolution is a 1x1 convolution in int8, or None."""
    makers, consumers, constants = makers_of(model), consumers_of(model), constants_of(model)
    convolution = next((node for node in model.graph.node if node.op_type == "Conv"), None)
    if convolution is None or any(name not in makers for name in convolution.input):
        return None
    pixels, *parameters = (makers[name] for name in convolution.input)
    if any(node.op_type != "DequantizeLinear" for node in (pixels, *parameters)):
        return None
    if pixels.input[0] not in makers or any(name not in constants for node in parameters for name in node.input):
        return None
    plain = all(attribute_of(convolution, key, value) == value for key, value in (("strides", [1, 1]), ("group", 1)))
    if constants[parameters[0].input[0]].shape[2:] != (1, 1) or not plain or any(attribute_of(convolution, "pads", [])):
        return None
    following: list[NodeProto] = []
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        readers = consumers.get(following[-1].output[0] if following else convolution.output[0], [])
        if len(readers) != 1 or readers[0].op_type != operator:
            return None
        following.append(readers[0])
    height, width, channels = (axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:])
    return _Stem(pixels, convolution, following[0], following[1], (height, width, channels))


def _reads_shifted_copies(model: ModelProto, stem: _Stem) -> bool:
    """Whether the convolution reads copies shifted by (0, 0), (0, 1), (1, 0) and (1, 1): tried on two pictures."""
    makers, constants = makers_of(model), constants_of(model)
    needed: list[NodeProto] = []
    waiting = [stem.pixels.input[0]]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node not in needed:
            needed.append(node)
            waiting.extend(node.input)
    if not needed or any(node.op_type not in COPIES for node in needed):
        return False
    used = {name for node in needed for name in node.input}
    graph = helper.make_graph(
        [node for node in model.graph.node if node in needed],
        "copies",
        [model.graph.input[0]],
        [helper.make_empty_tensor_value_info(stem.pixels.input[0])],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    height, width, channels = stem.shape
    pictures: _Bytes = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)
    copies = ReferenceEvaluator(helper.make_model(graph, opset_imports=model.opset_import)).run(None, {INPUT: pictures})
    filler = constants[stem.pixels.input[2]]
    padded = np.pad(pictures, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=filler).transpose(0, 3, 1, 2)
    expected = [padded[:, :, down : down + height, right : right + width] for down in (0, 1) for right in (0, 1)]
    return np.array_equal(np.asarray(copies), np.concatenate(expected, axis=1)[None])
