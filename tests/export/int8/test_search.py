"""The search judges every candidate, repeats itself, keeps to its time, and chooses what it says."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cnn_export import Candidate, Difference, Latency, Verdict, export
from cnn_export.exporting import open_run_source, read_dataset
from cnn_export.graph.float_graph import float_graph, keep_contract, with_metadata
from cnn_export.int8 import search
from cnn_export.int8.search import Search, choose, divergence, in_integers
from cnn_export.int8.targets import target_of
from cnn_infer.model import SPEC_KEY
from cnn_train import Run
from onnx import ModelProto, numpy_helper
from scipy.stats import entropy


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies of a moment: these tests are not about speed."""
    monkeypatch.setattr("cnn_export.int8.verdict.MIN_SECONDS", 0.02)


def search_of(run: Run, graph: ModelProto | None = None, max_drop: float | None = None) -> Search:
    graph = float_graph(run.network(), run.spec) if graph is None else graph
    dataset = read_dataset(run, open_run_source(run, None))
    fp32 = with_metadata(keep_contract(graph, run.spec), run.spec, {SPEC_KEY: run.spec.to_json()})
    return Search(graph, fp32, dataset.train.images, dataset.val, run.spec, target_of("vnni"), max_drop)


def candidate(name: str, speed: float, divergence: float, *, lost: int = 0, ships: bool = True) -> Candidate:
    zeros = Difference(1000, 0.9, 0.9, 0.9, 0.9, lost, 0, lost / 10, (0.0, 0.0), 1.0, lost, False)
    latency = [Latency(1, 1.0, 1 / speed, speed, 50), Latency(32, 2.0, 1 / speed, 2 * speed, 50)]
    verdict = Verdict(ships, ships or not lost, "", 0.1)
    return Candidate(name, (), (), 1, "", divergence, zeros, latency, verdict)


def test_divergence_equals_scipy() -> None:
    first, second = (np.random.default_rng(seed).dirichlet(np.ones(5), 50).astype(np.float32) for seed in (0, 1))
    assert divergence(first, second) == pytest.approx(entropy(first, second, axis=1).mean(), rel=1e-4)
    second[3, 2] = np.nan
    assert divergence(first, second) == math.inf


def test_the_nearest_of_the_fastest_is_chosen() -> None:
    candidates = [
        candidate("slow and exact", 1.5, 0.0001),
        candidate("fast", 3.0, 0.002),
        candidate("as fast, nearer", 2.95, 0.001),
        candidate("faster, not good enough", 4.0, 0.1, lost=90, ships=False),
    ]
    assert candidates[choose(candidates)].name == "as fast, nearer"
    assert candidates[choose([*candidates[:1], *candidates[3:]])].name == "slow and exact"


def test_where_none_ships_the_best_of_them_is_shown() -> None:
    slow = candidate("good but slow", 0.9, 0.001, ships=False)
    worse = candidate("bad and fast", 3.0, 0.1, lost=90, ships=False)
    assert choose([worse, slow]) == 1
    assert choose([worse, candidate("worse still", 3.0, 0.2, lost=95, ships=False)]) == 0


def test_two_searches_try_the_same_files_in_the_same_order(run: Run) -> None:
    first, second = (search_of(run).run(seconds=1000) for _ in range(2))
    assert [one.name for one in first.candidates] == [str(recipe) for recipe in in_integers()]
    assert len(first.candidates) == first.planned == 16
    assert [one.sha256 for one in first.candidates] == [one.sha256 for one in second.candidates]
    assert len({one.sha256 for one in first.candidates}) > 8  # they are not one and the same
    assert not any(one.strays for one in first.candidates)


def test_no_time_is_one_candidate_and_says_so(run: Run) -> None:
    found = search_of(run).run(seconds=0)
    assert (len(found.candidates), found.planned, found.winner) == (1, 16, 0)


def scaled_channel(model: ModelProto, factor: float) -> ModelProto:
    """The same function in float, with one channel between two convolutions so loud that int8 hears no other."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][1:3]
    for name, change in ((first.input[1], factor), (first.input[2], factor), (second.input[1], 1 / factor)):
        values = numpy_helper.to_array(weights[name]).copy()
        part = values[:, 0] if name == second.input[1] else values[0:1]
        part *= change
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    return model


def test_layers_that_int8_cannot_hold_go_back_to_float(run: Run) -> None:
    graph = scaled_channel(float_graph(run.network(), run.spec), 1e5)
    found = search_of(run, graph, max_drop=0).run(seconds=1000)
    assert not any(one.verdict.good_enough for one in found.candidates if not one.floats)
    winner = found.candidates[found.winner]
    assert winner.verdict.good_enough
    assert winner.floats
    assert not winner.strays  # what was left in float on purpose is not counted as an accident


@pytest.mark.parametrize("plant", ["nan", "flips"])
def test_a_planted_fault_does_not_ship(run: Run, monkeypatch: pytest.MonkeyPatch, plant: str) -> None:
    original = search.quantize

    def faulty(*arguments: object) -> ModelProto:
        result: ModelProto = original(*arguments)
        scales = [node.input[1] for node in result.graph.node if node.op_type == "DequantizeLinear"]
        for tensor in result.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if plant == "nan" and tensor.name in scales and values.dtype == np.float32:
                values[...] = np.nan
            elif plant == "flips" and values.dtype == np.int8 and values.ndim == 2:
                values = values[:, ::-1].copy() if values.shape[1] == 3 else values[::-1].copy()
            else:
                continue
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return result

    monkeypatch.setattr(search, "quantize", faulty)
    result = export(run, quantize=True, search_seconds=0)
    assert result.int8 is not None
    assert not result.int8.verdict.ships
    assert not result.int8.verdict.good_enough
    assert result.ship.name == "model.onnx"
    assert (run.path / "model.int8.rejected.onnx").exists()


def test_two_trainings_come_to_the_same_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed apart, which is measured: a wrong choice of ranges would lose pictures in one of them."""
    from cnn_train import train

    other = train(run.config.data, out=run.path.parent / "other", model="nano", size=16, epochs=20, seed=1)
    found = [search_of(one).run(seconds=0).candidates[0] for one in (run, other)]
    assert [one.verdict.good_enough for one in found] == [True, True]
    assert replace(found[0], sha256="") != replace(found[1], sha256="")
