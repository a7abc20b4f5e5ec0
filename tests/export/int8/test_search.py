"""The search evaluates every candidate, is deterministic, keeps to its time limit, and chooses as documented.

Latencies are given by the tests, and the int8 models are made for the target ``any``, which every processor computes
exactly. So no result depends on this machine.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cnn_export import Candidate, Difference, Timing, Verdict, export, exporting
from cnn_export.exporting import open_run_source, read_dataset
from cnn_export.graph.float_graph import keep_contract, with_metadata
from cnn_export.int8 import search
from cnn_export.int8.candidates import choose, divergence, fully_int8
from cnn_export.int8.search import Search
from cnn_export.int8.targets import kind_of_this_machine, target_of
from cnn_export.parity import run_model
from cnn_infer import open_model
from cnn_infer.model import GOLDEN_KEY
from cnn_train import Run
from onnx import ModelProto, numpy_helper
from scipy.stats import entropy


class Latencies:
    """Gives one speed-up after the other and then always the last one, instead of measuring; counts the calls."""

    def __init__(self, *speedups: float) -> None:
        self._speedups = itertools.chain(speedups, itertools.repeat(speedups[-1]))
        self.count = 0

    def __call__(self, *_: object) -> list[Timing]:
        self.count += 1
        speedup = next(self._speedups)
        return [Timing(1, 1.0, 1 / speedup, speedup, 50), Timing(32, 2.0, 1 / speedup, 2 * speedup, 50)]


def search_of(
    run: Run,
    graph: ModelProto | None = None,
    max_drop: float | None = None,
    latencies: Latencies | None = None,
    tune: Callable[[ModelProto], ModelProto] | None = None,
    target: str = "any",
) -> Search:
    graph = exporting.float_graph(run.network(), run.spec) if graph is None else graph
    dataset = read_dataset(run, open_run_source(run, None))
    fp32 = with_metadata(keep_contract(graph, run.spec), run.spec)
    images, latencies = dataset.train.images, latencies or Latencies(2.0)
    reference = run_model(open_model(fp32, device="cpu"), dataset.val.images).probabilities
    return Search(graph, fp32, images, dataset.val, reference, run.spec, target_of(target), max_drop, tune, latencies)


def no_fine_tuning(_: ModelProto) -> ModelProto:
    pytest.fail("an int8 model that is not faster is fine-tuned")


def candidate(name: str, speed: float, divergence: float, *, lost: int = 0, ships: bool = True) -> Candidate:
    zeros = Difference(1000, 0.9, 0.9, 0.9, 0.9, lost, 0, lost / 10, (0.0, 0.0), 1.0, lost, False, 10)
    latency = [Timing(1, 1.0, 1 / speed, speed, 50), Timing(32, 2.0, 1 / speed, 2 * speed, 50)]
    verdict = Verdict(ships or not lost, ships, "", 0.1)
    return Candidate(name, (), (), 1, "", divergence, zeros, latency, verdict)


def test_divergence_equals_scipy() -> None:
    first, second = (np.random.default_rng(seed).dirichlet(np.ones(5), 50).astype(np.float32) for seed in (0, 1))
    assert divergence(first, second) == pytest.approx(entropy(first, second, axis=1).mean(), rel=1e-4)
    second[3, 2] = np.nan
    assert divergence(first, second) == math.inf


def test_the_least_divergence_among_the_fastest_is_chosen() -> None:
    candidates = [
        candidate("slow and exact", 1.5, 0.0001),
        candidate("fast", 3.0, 0.002),
        candidate("as fast, nearer", 2.95, 0.001),
        candidate("faster, not good enough", 4.0, 0.1, lost=90, ships=False),
    ]
    assert candidates[choose(candidates)].name == "as fast, nearer"
    assert candidates[choose([*candidates[:1], *candidates[3:]])].name == "slow and exact"


def test_where_none_ships_the_best_candidate_is_reported() -> None:
    slow = candidate("good but slow", 0.9, 0.001, ships=False)
    worse = candidate("bad and fast", 3.0, 0.1, lost=90, ships=False)
    assert choose([worse, slow]) == 1
    assert choose([worse, candidate("worse still", 3.0, 0.2, lost=95, ships=False)]) == 0


def test_two_searches_try_the_same_files_in_the_same_order(run: Run) -> None:
    first, second = (search_of(run).run(seconds=1000) for _ in range(2))
    assert [one.name for one in first.candidates] == [str(recipe) for recipe in fully_int8()]
    assert len(first.candidates) == first.planned == 16
    assert [one.sha256 for one in first.candidates] == [one.sha256 for one in second.candidates]
    assert len({one.sha256 for one in first.candidates}) > 8
    assert not any(one.strays for one in first.candidates)
    assert first.ended_early == ""


@pytest.mark.parametrize("decided_later", [False, True])
def test_the_probabilities_are_those_of_the_winner(
    run: Run, monkeypatch: pytest.MonkeyPatch, decided_later: bool
) -> None:
    latencies = Latencies(2.0)
    if decided_later:  # the second candidate is best until the third one is so fast that the second is out
        latencies = Latencies(2.1, 2.0, 2.19)
        divergences = itertools.chain((0.2, 0.1), itertools.repeat(0.9))
        monkeypatch.setattr(search, "divergence", lambda *_: next(divergences))
    searching = search_of(run, latencies=latencies)
    found = searching.run(seconds=1000)
    assert found.winner == 0 or not decided_later
    expected = run_model(open_model(with_metadata(found.model, run.spec), device="cpu"), searching.val.images)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_without_time_one_candidate_is_evaluated_and_all_are_counted(run: Run) -> None:
    found = search_of(run).run(seconds=0)
    assert (len(found.candidates), found.planned, found.winner, found.ended_early) == (1, 16, 0, "")


def test_where_int8_is_not_faster_the_search_ends_after_one_candidate_of_each_structure(run: Run) -> None:
    latencies = Latencies(0.95, 0.94, 0.96, 0.97, 0.98, 0.99)
    found = search_of(run, latencies=latencies, tune=no_fine_tuning).run(seconds=1000)
    assert [one.name for one in found.candidates] == ["minmax, per channel", "minmax, per tensor"]
    assert (found.planned, latencies.count) == (2, 6)  # each was measured three times; the median counts
    assert found.ended_early == (
        "int8 is not faster on this machine: 0.95x at batch 1, 1.90x at batch 32 (per channel); "
        "0.98x at batch 1, 1.96x at batch 32 (per tensor); the search ended after 2 candidates"
    )
    assert not any(one.verdict.ships for one in found.candidates)


@pytest.mark.parametrize("noisy", [[0.8, 2.0, 2.0], [2.0, 0.8, 2.0, 2.0], [2.0] * 8 + [0.8, 2.0, 2.0]])
def test_one_noisy_measurement_does_not_end_the_search(run: Run, noisy: list[float]) -> None:
    found = search_of(run, latencies=Latencies(*noisy)).run(seconds=1000)
    assert len(found.candidates) == found.planned == 16
    assert all(one.speedup == 2 for one in found.candidates)
    assert found.ended_early == ""


def test_a_structure_that_is_not_faster_is_skipped(run: Run) -> None:
    per_channel = Latencies(*[2.0] * 8, 0.95)
    found = search_of(run, latencies=per_channel).run(seconds=1000)
    names = [str(recipe) for recipe in fully_int8()]
    assert [one.name for one in found.candidates] == names[:9]
    assert (found.planned, found.ended_early) == (9, "")
    per_tensor = Latencies(0.95, 0.95, 0.95, 2.0)
    found = search_of(run, latencies=per_tensor).run(seconds=1000)
    assert [one.name for one in found.candidates] == [names[0], *names[8:]]
    assert (found.planned, found.ended_early) == (9, "")
    assert "per tensor" in found.candidates[found.winner].name


def test_a_search_for_other_processors_is_not_guided_by_the_speed_of_this_machine(run: Run) -> None:
    target = "arm" if kind_of_this_machine() != "arm" else "vnni"
    latencies = Latencies(0.5)
    found = search_of(run, latencies=latencies, tune=lambda model: model, target=target).run(seconds=1000)
    assert (latencies.count, len(found.candidates), found.planned, found.ended_early) == (0, 17, 17, "")
    accepted = [one for one in found.candidates if one.verdict.good_enough]
    assert found.candidates[found.winner].divergence == min(one.divergence for one in accepted)
    assert {one.verdict.faster for one in found.candidates} == {None}
    assert not any(one.verdict.ships for one in found.candidates)


def test_out_of_time_after_a_structure_that_is_not_faster(run: Run) -> None:
    """Eight candidates per tensor are still planned, so the search did run out of time."""
    found = search_of(run, latencies=Latencies(0.95), tune=no_fine_tuning).run(seconds=0)
    assert (len(found.candidates), found.planned) == (1, 9)
    assert not found.ended_early


def test_fine_tuning_and_fp32_layers_build_on_a_structure_that_is_faster(run: Run) -> None:
    """Although the skipped one, per channel, is nearer to fp32."""
    latencies = Latencies(0.95, 0.95, 0.95, 2.0)
    graph = scaled_channel(exporting.float_graph(run.network(), run.spec), 1e5)
    found = search_of(run, graph, max_drop=0, latencies=latencies, tune=lambda model: model).run(seconds=1000)
    assert found.candidates[9].name.endswith("fine-tuned")
    assert all("per tensor" in one.name for one in found.candidates[9:])
    assert any(one.floats for one in found.candidates)


def scaled_channel(model: ModelProto, factor: float) -> ModelProto:
    """The same function in float, with one channel so much larger that int8 rounds all other channels to 0."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    first, second = [node for node in model.graph.node if node.op_type == "Conv"][1:3]
    for name, change in ((first.input[1], factor), (first.input[2], factor), (second.input[1], 1 / factor)):
        values = numpy_helper.to_array(weights[name]).copy()
        part = values[:, 0] if name == second.input[1] else values[0:1]
        part *= change
        weights[name].CopyFrom(numpy_helper.from_array(values, name))
    return model


@pytest.mark.parametrize("speedups", [[2.0], [0.9, 2.0, 2.0]])
def test_layers_that_int8_cannot_represent_are_kept_in_fp32(run: Run, speedups: list[float]) -> None:
    """Also where one measurement in three is too slow."""
    graph = scaled_channel(exporting.float_graph(run.network(), run.spec), 1e5)
    found = search_of(run, graph, max_drop=0, latencies=Latencies(*speedups * 100)).run(seconds=1000)
    assert not any(one.verdict.good_enough for one in found.candidates if not one.floats)
    winner = found.candidates[found.winner]
    assert winner.verdict.good_enough
    assert winner.floats
    assert not winner.strays  # nodes kept in fp32 on purpose are not reported


def test_an_untrained_network_gets_no_fp32_layers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = exporting.float_graph(run.network(), run.spec)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "logits_bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([1e3, 0, 0], np.float32), bias.name))  # always the first class
    monkeypatch.setattr(search, "fully_int8", lambda: list(fully_int8())[:1])
    found = search_of(run, graph, tune=no_fine_tuning).run(seconds=1000)
    assert (len(found.candidates), found.planned, found.winner) == (1, 1, 0)
    count = found.candidates[0].validation.images
    reason = f"fp32 predicts the same class for all {count} validation pictures"
    assert found.ended_early.startswith(f"no layers were kept in fp32 or fine-tuned: {reason}, so ")
    assert found.candidates[0].verdict.rejected


def test_no_more_layers_are_kept_in_fp32_once_the_model_is_not_faster(run: Run) -> None:
    graph = scaled_channel(exporting.float_graph(run.network(), run.spec), 1e5)
    latencies = Latencies(*[2.0] * 16, 1.0)
    found = search_of(run, graph, max_drop=0, latencies=latencies).run(seconds=1000)
    assert len(found.candidates) == found.planned == 17
    assert latencies.count == 16 + 3


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
    assert open_model(run.path / "model.int8.rejected.onnx", device="cpu").metadata[GOLDEN_KEY] == "[]"


def test_int8_is_accurate_for_two_trainings(run: Run) -> None:
    """A wrong choice of calibration ranges would lose pictures in one of them."""
    from cnn_train import train

    other = train(run.config.data, out=run.path.parent / "other", model="nano", size=16, epochs=20, seed=1)
    found = [search_of(one).run(seconds=0).candidates[0] for one in (run, other)]
    assert [one.verdict.good_enough for one in found] == [True, True]
    assert replace(found[0], sha256="") != replace(found[1], sha256="")
