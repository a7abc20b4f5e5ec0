"""No sum of two products overflows 16 bits in a file for ``any``, and the proof finds every file where one can."""

import itertools
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from cnn_export import GraphError, exporting
from cnn_export.exporting import open_run_source, read_dataset
from cnn_export.graph.float_graph import keep_contract
from cnn_export.graph.lookup import constants_of, makers_of
from cnn_export.int8 import pairs
from cnn_export.int8.bias import correct_biases
from cnn_export.int8.overflow import LIMIT, prove
from cnn_export.int8.qat import fine_tune
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import TARGETS
from cnn_train import Run
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

EXTREMES = [*itertools.product((0, 255), repeat=2)]


def vpmaddubsw(activations: tuple[int, int], weights: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sums of two products as the instruction computes them, and the exact sums; weights are int8 (..., 2)."""
    exact = (np.array(activations) * weights.astype(np.int64)).sum(axis=-1)
    return exact.clip(-32768, 32767), exact


def overflows(weights: NDArray[np.int8]) -> bool:
    """Whether any activations from 0 to 255 overflow: the sum is linear, so the extremes decide."""
    return any(np.not_equal(*vpmaddubsw(activations, weights)).any() for activations in EXTREMES)


def convolution(weight: NDArray[np.int8], kind: type[np.generic] = np.uint8, **attributes: int) -> ModelProto:
    """One quantized convolution."""
    constants = {"s": np.float32(0.1), "z": kind(0), "w": weight, "ws": np.float32(0.1), "wz": np.int8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"]),
        helper.make_node("Conv", ["xf", "wf"], ["y"], name="one", **attributes),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    infos = [helper.make_tensor_value_info("x", TensorProto.UINT8, None), helper.make_tensor_value_info("y", 1, None)]
    return helper.make_model(helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors))


def quantized_layers(model: ModelProto) -> Iterator[tuple[str, NDArray[np.int8], NDArray[np.float32]]]:
    """Name, integers and their float values of each quantized layer."""
    constants, makers = constants_of(model), makers_of(model)
    for node in model.graph.node:
        source = makers.get(node.input[1]) if node.op_type in ("Conv", "Gemm") else None
        if source is not None and source.op_type == "DequantizeLinear":
            levels, scale = constants[source.input[0]], constants[source.input[1]]
            axis = next((one.i for one in source.attribute if one.name == "axis"), 1)
            shape = [-1 if index == axis else 1 for index in range(levels.ndim)]
            yield node.name, levels, levels * (scale.reshape(shape) if scale.ndim else scale)


@pytest.fixture(scope="module")
def made(trained: object) -> "Made":
    return Made(Run.open(str(trained)))


class Made:
    """Quantized graphs of the trained run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dataset = read_dataset(run, open_run_source(run, None))
        self.floats = exporting.float_graph(run.network(), run.spec)
        self.batches = normalised(self.dataset.train.images, run.spec)
        self.statistics = collect(self.floats, self.batches)

    def quantized(self, target: str, recipe: Recipe) -> ModelProto:
        return quantize(self.floats, self.statistics, self.batches, self.run.spec, recipe, TARGETS[target])


float_pairs = arrays(np.float32, (3, 8, 2), elements=st.floats(-4, 4, width=32))


@settings(max_examples=200, deadline=None)
@given(float_pairs)
def test_no_activations_overflow_the_weights_that_are_chosen(groups: NDArray[np.float32]) -> None:
    levels, scales = pairs.fitted(groups, np.zeros(3))
    assert not overflows(levels)
    assert levels.min() >= -127
    errors = np.square(levels * scales[:, None, None] - groups).sum(axis=(1, 2))
    step = np.abs(groups).max(axis=(1, 2)) / 64
    seven = np.rint(groups / np.where(step, step, 1)[:, None, None]) * step[:, None, None]
    assert (errors <= np.square(seven - groups).sum(axis=(1, 2)) * 1.001 + 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(arrays(np.int8, (2, 2, 3, 3), elements=st.integers(-127, 127)))
def test_a_layer_is_proven_exactly_where_no_pair_saturates(weight: NDArray[np.int8]) -> None:
    (layer,) = prove(convolution(weight)).layers
    sums = np.stack([vpmaddubsw(ends, pairs.products_added(layer_node(), weight))[1] for ends in EXTREMES])
    assert (layer.largest_pair, layer.smallest_pair) == (sums.max(), sums.min())
    assert layer.proven != overflows(pairs.products_added(layer_node(), weight))


def layer_node(**attributes: int) -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", "w"], ["y"], **attributes)


@pytest.mark.parametrize(("weights", "proven"), [((64, 64), True), ((127, 2), False), ((-64, -65), False)])
def test_the_limit_holds_for_all_activations(weights: tuple[int, int], proven: bool) -> None:
    """All 65,536 pairs of activations, not only the extremes."""
    first, second = np.mgrid[:256, :256]
    sums = first * weights[0] + second * weights[1]
    assert bool(LIMIT[0] <= sums.min() and sums.max() <= LIMIT[1]) is proven
    weight = np.array(weights, np.int8).reshape(1, 2, 1, 1)
    assert prove(convolution(weight)).layers[0].proven is proven


def test_neighbours_follow_the_channels_then_the_columns_then_the_rows() -> None:
    row, column, channel = np.mgrid[:2, :3, :3]
    order = (row * 3 + column) * 3 + channel  # of the weights of a filter in memory
    weight = order.transpose(2, 0, 1)[None].astype(np.int8)
    groups = pairs.products_added(layer_node(), weight)
    assert groups.ravel().tolist() == [*range(18)]
    odd = pairs.products_added(layer_node(), weight[:, :, :1])
    assert odd.shape == (1, 5, 2)
    assert odd[0, -1, 1] == 0


def test_depthwise_products_are_added_alone() -> None:
    weight = np.full((4, 1, 3, 3), 127, np.int8)
    assert prove(convolution(weight, group=4)).layers[0].proven
    assert not prove(convolution(weight)).layers[0].proven


def test_signed_activations_overflow_with_one_weight_only() -> None:
    for smallest, proven in ((-127, True), (-128, False)):
        weight = np.full((1, 2, 1, 1), smallest, np.int8)
        (layer,) = prove(convolution(weight, np.int8)).layers
        assert layer.proven is proven
        assert layer.processors == "64-bit Arm without dot product"


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_quantized_network_is_proven_and_no_layer_is_worse_than_with_7_bits(made: Made, per_channel: bool) -> None:
    exact = constants_of(made.floats)
    weights = {node.name: exact[node.input[1]] for node in made.floats.graph.node if node.op_type in ("Conv", "Gemm")}
    errors = []
    for target in ("any", "avx2"):
        model = made.quantized(target, Recipe("minmax", per_channel=per_channel))
        errors.append({name: np.square(found - weights[name]).sum() for name, _, found in quantized_layers(model)})
        proof = prove(keep_contract(model, made.run.spec))
        assert not proof.outside
        assert not proof.floats
        assert {layer.name for layer in proof.layers} == set(weights)
    assert all(errors[0][name] <= errors[1][name] for name in weights)
    assert sum(errors[0].values()) < 0.95 * sum(errors[1].values())


def test_bias_correction_and_fine_tuning_keep_the_proof(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_export.int8.qat.STEPS", 20)
    monkeypatch.setattr("cnn_export.int8.qat.LEARNING_RATE", 1e-2)  # far enough to leave the rule
    model = made.quantized("any", Recipe("minmax"))
    assert correct_biases(model, made.floats, made.statistics) >= 4
    run = made.run
    tuned = fine_tune(model, made.floats, run.network(), made.dataset.train, run.spec, run.config)
    before, after = (
        np.concatenate([levels.ravel() for _, levels, _ in quantized_layers(one)]) for one in (model, tuned)
    )
    assert (before != after).mean() > 0.1
    assert not prove(tuned).outside


def test_layers_in_fp32_are_named(made: Made) -> None:
    name = next(node.name for node in made.floats.graph.node if node.op_type == "Conv")
    proof = prove(made.quantized("any", Recipe("minmax", floats=(name,))))
    assert proof.floats == (name,)
    assert name not in {layer.name for layer in proof.layers}


def test_a_planted_weight_is_found_by_the_name_of_its_layer(made: Made) -> None:
    model = made.quantized("any", Recipe("minmax"))
    makers = makers_of(model)
    node = [node for node in model.graph.node if node.op_type == "Conv"][1]
    stored = next(one for one in model.graph.initializer if one.name == makers[node.input[1]].input[0])
    weight = numpy_helper.to_array(stored).copy()
    weight[3, :2, 1, 1] = 127, 2
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))
    proof = prove(keep_contract(model, made.run.spec))
    assert [layer.name for layer in proof.outside] == [node.name]
    assert proof.certificate["outside"] == [node.name]
    assert proof.certificate["processors"] == ["x86 without VNNI"]
    with pytest.raises(GraphError, match=f"int8 layer {node.name}: .* to 32895, outside of 16 bits"):
        proof.check()
