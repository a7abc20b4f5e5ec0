"""An int8 graph of wide pixels gives the bits of the graph before, and other graphs are left as they are."""

from functools import cache

import numpy as np
import pytest
import torch
from cnn_export.graph.float_graph import float_graph, keep_contract, with_metadata
from cnn_export.graph.runtime_graph import optimised
from cnn_export.graph.width import COPIES, widen_pixels
from cnn_export.int8.bias import correct_biases
from cnn_export.int8.overflow import prove
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.reference import Reference
from cnn_export.int8.targets import target_of
from cnn_export.parity import run_model
from cnn_infer import Spec, open_model
from cnn_train.network.presets import preset
from onnx import ModelProto, numpy_helper


def spec_of(height: int, width: int, colour: str) -> Spec:
    return Spec(("a", "b", "c"), height, width, colour, "squash", "bilinear", 117, 0.02)  # type: ignore[arg-type]


def pictures(spec: Spec, count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *spec.shape), dtype=np.uint8)


@cache
def quantized(height: int, width: int, colour: str, recipe: Recipe) -> ModelProto:
    torch.manual_seed(0)
    spec = spec_of(height, width, colour)
    graph = float_graph(preset("nano", classes=3, channels=spec.channels, size=(height, width), dropout=0.0), spec)
    batches = normalised(pictures(spec), spec)
    statistics = collect(graph, batches)
    result = quantize(graph, statistics, batches, spec, recipe, target_of("any"))
    if recipe.correct_biases:
        correct_biases(result, graph, statistics)
    return keep_contract(result, spec)


def logits_of(model: ModelProto, spec: Spec) -> np.ndarray:
    return run_model(open_model(with_metadata(model, spec), device="cpu"), pictures(spec)).logits


@pytest.mark.parametrize(
    "recipe", [Recipe("minmax"), Recipe("mse", per_channel=False), Recipe("mse", correct_biases=True)]
)
@pytest.mark.parametrize(("height", "width", "colour"), [(28, 28, "grey"), (15, 20, "rgb")])
def test_the_bits_stay_the_same(height: int, width: int, colour: str, recipe: Recipe) -> None:
    spec = spec_of(height, width, colour)
    before, after = quantized(height, width, colour, recipe), ModelProto()
    after.CopyFrom(before)
    assert widen_pixels(after)
    expected = logits_of(before, spec)
    assert np.array_equal(logits_of(after, spec), expected)
    assert np.array_equal(Reference(after, saturates=True).run(pictures(spec)).logits, expected)
    running = [node.op_type for node in optimised(with_metadata(after, spec)).graph.node]
    assert running[:4] == ["Reshape", "QLinearConv", "Reshape", "QLinearConv"]  # no transposition is left
    assert COPIES.isdisjoint(running[:-5])  # of the copies nothing is run
    assert all(layer.proven for layer in prove(after).layers)


def without_change(model: ModelProto) -> bool:
    before = model.SerializeToString(deterministic=True)
    return not widen_pixels(model) and model.SerializeToString(deterministic=True) == before


def test_a_width_that_does_not_divide_by_four_stays() -> None:
    assert without_change(quantized(16, 18, "rgb", Recipe("minmax")))


def test_larger_pictures_without_shifted_copies_stay() -> None:
    assert without_change(quantized(64, 64, "rgb", Recipe("minmax")))


def test_a_first_convolution_in_fp32_stays() -> None:
    names = [node.name for node in quantized(28, 28, "grey", Recipe("minmax")).graph.node if node.op_type == "Conv"]
    assert without_change(quantized(28, 28, "grey", Recipe("minmax", floats=(names[0],))))


@pytest.mark.parametrize("changed", ["order of the copies", "colour of the border"])
def test_other_copies_of_the_picture_stay(changed: str) -> None:
    model = ModelProto()
    model.CopyFrom(quantized(28, 28, "grey", Recipe("minmax")))
    if changed == "order of the copies":
        copies = next(node for node in model.graph.node if node.op_type == "Concat")
        copies.input[:] = [copies.input[1], copies.input[0], *copies.input[2:]]
    else:
        filler = numpy_helper.from_array(np.array(spec_of(28, 28, "grey").zero_point + 1, np.uint8), "other")
        model.graph.initializer.append(filler)
        next(node for node in model.graph.node if node.op_type == "Pad").input[2] = filler.name
    assert without_change(model)
