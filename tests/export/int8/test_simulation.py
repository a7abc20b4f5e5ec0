"""What PyTorch trains under is what ONNX Runtime computes: rounding, gradients, a whole network, and what is stored."""

import numpy as np
import onnxruntime
import pytest
import torch
from cnn_export import GraphError
from cnn_export.exporting import open_run_source, read_dataset
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.int8 import qat
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.search import divergence
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


class Quantised:
    """A run's network in int8, per tensor, so that there is something to learn."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dataset: Dataset = read_dataset(run, open_run_source(run, None))
        self.floats = float_graph(run.network(), run.spec)
        batches = normalised(self.dataset.train.images, run.spec)
        recipe = Recipe("minmax", per_channel=False)
        self.model = quantize(self.floats, collect(self.floats, batches), batches, run.spec, recipe, target_of("vnni"))

    def probabilities(self, graph: ModelProto) -> NDArray[np.float32]:
        data = keep_contract(graph, self.run.spec).SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"image": np.ascontiguousarray(self.dataset.test.images)})[0]


@pytest.fixture
def quantised(run: Run) -> Quantised:
    return Quantised(run)


def test_a_network_gives_what_onnxruntime_gives(quantised: Quantised) -> None:
    """Far nearer than fp32 is: only values halfway between two levels may fall to either side."""
    pictures = to_input(quantised.dataset.test.images, quantised.run.spec, torch.device("cpu"))
    with torch.no_grad():
        found = Simulation(quantised.model, quantised.floats)(pictures).softmax(1).numpy()
    wanted, exact = (quantised.probabilities(graph) for graph in (quantised.model, quantised.floats))
    assert np.abs(found - wanted).mean() < 0.5 * np.abs(exact - wanted).mean()


def test_storing_what_was_not_trained_changes_no_byte(quantised: Quantised) -> None:
    before = quantised.model.SerializeToString(deterministic=True)
    assert Simulation(quantised.model, quantised.floats).store() >= 4
    assert quantised.model.SerializeToString(deterministic=True) == before


def test_fine_tuning_comes_nearer_to_fp32_and_repeats(quantised: Quantised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qat, "STEPS", 60)
    run, train = quantised.run, quantised.dataset.train
    first, second = (
        qat.fine_tune(quantised.model, quantised.floats, run.network(), train, run.spec, run.config) for _ in range(2)
    )
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    exact = quantised.probabilities(quantised.floats)
    before, after = (divergence(exact, quantised.probabilities(graph)) for graph in (quantised.model, first))
    assert after < 0.9 * before


def test_an_operator_that_is_not_known_is_named(quantised: Quantised) -> None:
    quantised.model.graph.node.append(helper.make_node("Elu", ["logits"], ["other"], name="elu"))
    with pytest.raises(GraphError, match="--qat does not know Elu"):
        Simulation(quantised.model, quantised.floats)
