"""The simulation in PyTorch equals ONNX Runtime: rounding, gradients, a whole network, and the stored integers."""

import numpy as np
import onnxruntime
import pytest
import torch
from cnn_export import GraphError, exporting
from cnn_export.exporting import open_run_source, read_dataset
from cnn_export.graph.float_graph import keep_contract
from cnn_export.int8 import qat
from cnn_export.int8.candidates import divergence
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.simulation import Simulation, fake_quantize
from cnn_export.int8.targets import target_of
from cnn_train import Dataset, Run
from cnn_train.network.logits import to_input
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper


def rounded_by_onnxruntime(values: NDArray[np.float32], scale: float, zero: int) -> NDArray[np.float32]:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("in", "out")]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [zero]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["in", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "pair", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["out"], {"in": values})[0]


@pytest.mark.parametrize(("scale", "zero"), [(0.25, 0), (0.1, 128), (0.0123, 7)])
def test_rounding_is_that_of_onnxruntime_bit_for_bit(scale: float, zero: int) -> None:
    ties = (np.arange(-700, 700) * np.float32(0.5) * np.float32(scale)).astype(np.float32)
    values = np.concatenate([ties, np.random.default_rng(0).normal(0, 20 * scale, 5000).astype(np.float32)])
    found = fake_quantize(torch.from_numpy(values), torch.tensor(scale), torch.tensor(float(zero)), 0, 255)
    assert np.array_equal(found.numpy(), rounded_by_onnxruntime(values, scale, zero))


def test_gradients_pass_through_inside_the_range_only() -> None:
    values = torch.tensor([-1.0, 0.26, 5.0, 30.0], requires_grad=True)
    fake_quantize(values, torch.tensor(0.1), torch.tensor(0.0), 0, 255).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 0]


class Quantized:
    """A run's network in int8, per tensor, so that its error is large enough for fine-tuning.

    The target ``generic`` has weights of 7 bits, which every processor multiplies exactly.
    """

    def __init__(self, run: Run, target: str = "generic") -> None:
        self.run = run
        self.dataset: Dataset = read_dataset(run, open_run_source(run, None))
        self.floats = exporting.float_graph(run.network(), run.spec)
        batches = normalised(self.dataset.train.images, run.spec)
        recipe = Recipe("minmax", per_channel=False)
        self.model = quantize(self.floats, collect(self.floats, batches), batches, run.spec, recipe, target_of(target))

    def probabilities(self, graph: ModelProto) -> NDArray[np.float32]:
        data = keep_contract(graph, self.run.spec).SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"image": np.ascontiguousarray(self.dataset.test.images)})[0]


@pytest.fixture
def quantized(run: Run) -> Quantized:
    return Quantized(run)


def test_a_network_gives_what_onnxruntime_gives(quantized: Quantized) -> None:
    """Only values halfway between two levels may be rounded differently, so the error is far less than that of fp32."""
    pictures = to_input(quantized.dataset.test.images, quantized.run.spec, torch.device("cpu"))
    with torch.no_grad():
        found = Simulation(quantized.model, quantized.floats)(pictures).softmax(1).numpy()
    wanted, exact = (quantized.probabilities(graph) for graph in (quantized.model, quantized.floats))
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(exact - wanted).mean()


@pytest.mark.parametrize("target", ["generic", "vnni", "any"])
def test_storing_untrained_weights_changes_no_byte(run: Run, target: str) -> None:
    """With weights of 7 and of 8 bits, and of 8 bits with a limit on pairs."""
    quantized = Quantized(run, target)
    before = quantized.model.SerializeToString(deterministic=True)
    assert Simulation(quantized.model, quantized.floats).store() >= 4
    assert quantized.model.SerializeToString(deterministic=True) == before


def test_fine_tuning_reduces_the_divergence_from_fp32_and_is_deterministic(
    quantized: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qat, "STEPS", 60)
    run, train = quantized.run, quantized.dataset.train
    first, second = (
        qat.fine_tune(quantized.model, quantized.floats, run.network(), train, run.spec, run.config) for _ in range(2)
    )
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    exact = quantized.probabilities(quantized.floats)
    before, after = (divergence(exact, quantized.probabilities(graph)) for graph in (quantized.model, first))
    assert after < 0.9 * before


def test_an_unsupported_operator_is_named(quantized: Quantized) -> None:
    quantized.model.graph.node.append(helper.make_node("Elu", ["logits"], ["other"], name="elu"))
    with pytest.raises(GraphError, match="qat does not support Elu"):
        Simulation(quantized.model, quantized.floats)


def test_an_axis_that_counts_from_the_end_is_the_same(run: Run) -> None:
    quantized = Quantized(run)
    batches = normalised(quantized.dataset.train.images, run.spec)
    statistics, recipe = collect(quantized.floats, batches), Recipe("minmax")
    model = quantize(quantized.floats, statistics, batches, run.spec, recipe, target_of("generic"))
    pictures = torch.from_numpy(next(batches())["normalised"])
    expected = Simulation(model, quantized.floats)(pictures)
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    changed = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "axis" and node.op_type == "DequantizeLinear" and ranks.get(node.input[0], 0) > 1:
                attribute.i -= ranks[node.input[0]]
                changed += 1
    assert changed > 1
    assert torch.equal(Simulation(model, quantized.floats)(pictures), expected)
