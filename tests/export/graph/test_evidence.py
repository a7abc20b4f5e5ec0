"""Evidence and bias sum to the logits, and each cell's part is what an independent computation gives."""

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from cnn_export import GraphError
from cnn_export.graph.evidence import add_evidence, head_of
from cnn_export.graph.float_graph import float_graph, keep_contract, with_metadata
from cnn_export.graph.lookup import shapes_of
from cnn_export.graph.outputs import add_output
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import target_of
from cnn_infer import Model, Spec, open_model
from numpy.typing import NDArray
from onnx import ModelProto, helper
from torch import Tensor, nn
from torch.nn import functional

CELLS, CHANNELS = (7, 6), 16
SPEC = Spec(
    ("a", "b", "c"), 14, 11, "rgb", "squash", "bilinear", 124, 0.016, 1.7, details={"evidence": {"cells": [*CELLS]}}
)
PICTURES = np.random.default_rng(0).integers(0, 256, (9, *SPEC.shape), dtype=np.uint8)


class Network(nn.Module):
    """A feature map of 7 x 6 cells with 16 channels, a pooling, and a linear layer."""

    def __init__(self, pooling: Callable[[Tensor], Tensor], bias: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, CHANNELS, 3, padding=1, stride=2)
        self.pooling = pooling
        self.linear = nn.Linear(CHANNELS, 3, bias=bias)

    def features(self, pictures: Tensor) -> Tensor:
        return functional.relu(self.last(functional.relu(self.stem(pictures))))

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.pooling(self.features(pictures)))
        return logits


NETWORKS = {
    "max_pool2d": Network(lambda features: functional.max_pool2d(features, features.shape[2:]).flatten(1), bias=True),
    "amax": Network(lambda features: features.amax((2, 3)), bias=False),
    "mean": Network(lambda features: features.mean((2, 3)), bias=False),
    "AdaptiveAvgPool2d": Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)), bias=True),
}


@cache
def float_model(name: str, opset: int = 20) -> ModelProto:
    return float_graph(NETWORKS[name], SPEC, opset)


def opened(model: ModelProto) -> Model:
    data = with_metadata(model, SPEC)
    return open_model(data, device="cpu", outputs=["evidence"])


def run(model: Model, pictures: NDArray[np.uint8] = PICTURES) -> list[NDArray[np.float32]]:
    """The logits and the evidence. The logits are those of the model without evidence."""
    logits, evidence = model.session.run(["logits", "evidence"], {"image": pictures})
    without = model.with_outputs([]).session.run(["logits"], {"image": pictures})[0]
    np.testing.assert_array_equal(logits, without)
    return [logits, evidence]


@torch.no_grad()
def expected(network: Network, maximum: bool) -> NDArray[np.float64]:
    """The evidence (n, classes, rows, columns), channel by channel."""
    batch = (PICTURES.transpose(0, 3, 1, 2).astype(np.float32) - SPEC.zero_point) * np.float32(SPEC.scale)
    features, weight = (
        network.features(torch.from_numpy(batch)).double().numpy(),
        network.linear.weight.double().numpy(),
    )
    result = np.zeros((len(features), 3, *CELLS))
    for n, c in np.ndindex(features.shape[:2]):
        plane = features[n, c]
        holders = plane == plane.max()
        share = holders * plane.max() / holders.sum() if maximum else plane / plane.size
        result[n] += np.multiply.outer(weight[:, c], share)
    return result / SPEC.temperature


@pytest.mark.parametrize(("name", "opset"), [("max_pool2d", 20), ("amax", 18), ("mean", 20), ("AdaptiveAvgPool2d", 19)])
def test_each_cell_has_its_part_of_each_logit(name: str, opset: int) -> None:
    plain = keep_contract(float_model(name, opset), SPEC)
    found = head_of(plain)
    assert (found.maximum, found.cells) == ("max" in name, CELLS)
    logits, evidence = run(opened(add_evidence(plain, head_of(plain))))
    wanted = expected(NETWORKS[name], found.maximum)
    assert np.abs(wanted).max() > 0.001
    np.testing.assert_allclose(evidence, wanted, atol=3e-7)
    np.testing.assert_allclose(evidence.sum((2, 3)) + found.bias, logits, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "has no known shape"),
        (["batch", CHANNELS, 7], "has the shape ['batch', 16, 7]"),
        (["batch", CHANNELS, "rows", 6], "has the shape ['batch', 16, 'rows', 6]"),
    ],
)
def test_a_feature_map_of_unknown_size_is_refused(
    shape: list[str | int] | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keep_contract(float_model("amax"), SPEC)
    features = head_of(plain).features
    shapes = {**shapes_of(plain), features: shape or []}
    monkeypatch.setattr("cnn_export.graph.evidence.shapes_of", lambda _: shapes)
    with pytest.raises(
        GraphError, match=r"^evidence \(--evidence\) needs a feature map of fixed size: .*" + re.escape(message)
    ):
        head_of(plain)


def test_cells_that_share_a_maximum_get_equal_parts() -> None:
    plain = keep_contract(float_model("max_pool2d"), SPEC)
    last = next(tensor for tensor in plain.graph.initializer if tensor.name == "last.weight")
    last.raw_data = bytes(len(last.raw_data))  # then all cells of a channel have its bias
    logits, evidence = run(opened(add_evidence(plain, head_of(plain))))
    assert np.abs(evidence).max() > 1e-4
    assert np.ptp(evidence, axis=(2, 3)).max() < 1e-8
    np.testing.assert_allclose(evidence.sum((2, 3)) + head_of(plain).bias, logits, atol=1e-6)


@pytest.mark.parametrize(("name", "target"), [("max_pool2d", "any"), ("mean", "any"), ("mean", "vnni")])
def test_an_int8_file_credits_what_its_integers_give(name: str, target: str) -> None:
    graph, batches = float_model(name), normalised(PICTURES, SPEC)
    quantized = quantize(graph, collect(graph, batches), batches, SPEC, Recipe("minmax"), target_of(target))
    plain = keep_contract(quantized, SPEC)
    logits, evidence = run(opened(add_evidence(plain, head_of(plain))))
    np.testing.assert_allclose(evidence.sum((2, 3)) + head_of(plain).bias, logits, atol=1e-6)
    wanted = expected(NETWORKS[name], "max" in name)
    assert 1e-4 < np.abs(logits - head_of(plain).bias - wanted.sum((2, 3))).max() < 0.1  # int8, and of this network
    assert np.corrcoef(evidence.ravel(), wanted.ravel())[0, 1] > 0.8


def with_node(name: str, tensor: str, operator: str, **attributes: object) -> ModelProto:
    """A finished graph with another node after ``tensor``."""
    model = keep_contract(float_model(name), SPEC)
    for node in model.graph.node:
        node.output[:] = [f"{output}_before" if output == tensor else output for output in node.output]
    place = next(number for number, node in enumerate(model.graph.node) if f"{tensor}_before" in node.output)
    node = helper.make_node(operator, [f"{tensor}_before"], [tensor], f"added_{operator}", **attributes)  # type: ignore[arg-type]
    model.graph.node.insert(place + 1, node)
    return model


def pooled_in_part() -> ModelProto:
    model = keep_contract(float_model("max_pool2d"), SPEC)
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    for attribute in pool.attribute:
        if attribute.name == "kernel_shape":
            attribute.ints[1] -= 1
    return model


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: with_node("amax", "amax", "Tanh"), r"Tanh \(added_Tanh\) before its last layer"),
        (lambda: with_node("mean", "logits", "LogSoftmax", axis=1), r"LogSoftmax \(added_LogSoftmax\) at its end"),
        (pooled_in_part, "MaxPool .* before its last layer, which does not cover the whole feature map"),
    ],
    ids=["activation", "log-softmax", "not global"],
)
def test_a_network_whose_logits_are_not_sums_over_cells_is_refused(make: Callable[[], ModelProto], reason: str) -> None:
    with pytest.raises(GraphError, match=f"needs a network that ends in a global maximum or mean.*{reason}") as found:
        head_of(make())
    assert "\n" not in str(found.value)


def test_the_names_and_the_order_of_optional_outputs_are_checked() -> None:
    model = keep_contract(float_model("mean"), SPEC)
    node = helper.make_node("ReduceMax", ["logits", "strangeness/axes"], ["strangeness"], keepdims=0)
    axes = {"strangeness/axes": np.array([1])}
    with_one = add_output(model, "strangeness", [], [node], axes)
    assert [output.name for output in with_one.graph.output] == ["logits", "probabilities", "strangeness"]
    assert len(model.graph.output) == 2
    with pytest.raises(GraphError, match="in the order evidence, strangeness"):
        add_evidence(with_one, head_of(with_one))
    stray = helper.make_node("Identity", ["logits"], ["copy"])
    with pytest.raises(GraphError, match=r"must be called strangeness/\.\.\.: copy"):
        add_output(model, "strangeness", [], [stray, node], axes)
    onnx.checker.check_model(with_one, full_check=True)
