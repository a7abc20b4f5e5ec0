"""The search for the best int8 model. Each candidate is evaluated on validation pictures: accuracy and speed.

The search first tries the recipes that quantize the whole network, then fine-tuning if it was requested. If no
candidate may ship, it keeps the most sensitive layers in fp32, one more at a time, as long as the model is faster than
fp32.

The speed depends on the structure of the file (weights quantized per channel or per tensor) and hardly on the
calibration ranges. So the first candidate of a structure decides for the whole structure: if it is not faster than
fp32, the search skips the other candidates of that structure, and it ends if no structure is left.

A model for other processors than this machine's is evaluated in their arithmetic, and its speed is not measured: then
accuracy alone decides.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from cnn_infer import Model, console, open_model
from cnn_infer.spec import Spec
from cnn_train import Split
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.graph.float_graph import keep_contract, with_metadata
from cnn_export.graph.lookup import consumers_of
from cnn_export.graph.passes import keep_float_layers
from cnn_export.graph.runtime_graph import optimised, strays
from cnn_export.graph.width import widen_pixels
from cnn_export.int8.arithmetic import evaluator, is_here
from cnn_export.int8.bias import correct_biases
from cnn_export.int8.candidates import Candidate, choose, closest, divergence, fully_int8
from cnn_export.int8.overflow import prove
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import Target
from cnn_export.int8.verdict import Timing, compare, decide, is_faster, meaningless, measure, slow_reason, speed_text
from cnn_export.options import SEARCH_SECONDS
from cnn_export.parity import Evaluate
from cnn_export.selection import classes_in_turn

MEASUREMENTS = 3
"""How often a candidate is measured before it counts as not faster than fp32."""

SENSITIVITY_PICTURES = 512

Measure = Callable[[Model, Model, NDArray[np.uint8]], list[Timing]]
"""Measures the latency of fp32 and int8 on pictures, as :func:`cnn_export.int8.verdict.measure` does."""


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        candidates: All evaluated candidates, in the order in which they were tried.
        winner: Index of the best one.
        model: The best one.
        probabilities: Those that it gives for the validation pictures, float32 (n, classes).
        planned: Number of candidates that the search would have evaluated without a time limit.
        seconds: Duration of the search.
        ended_early: Why the search gave up before it tried every recipe, for the user; empty if it did not give up.
    """

    candidates: list[Candidate]
    winner: int
    model: ModelProto
    probabilities: NDArray[np.float32]
    planned: int
    seconds: float
    ended_early: str


@dataclass(frozen=True)
class _Trial:
    recipe: Recipe
    candidate: Candidate
    model: ModelProto
    probabilities: NDArray[np.float32] | None  # for the validation pictures; kept of the best trial only


class Search:
    """Makes int8 candidates of one float graph and evaluates them.

    Args:
        graph: Float graph.
        fp32: The fp32 file.
        pictures: Training pictures for the calibration, uint8 (n, h, w, c).
        val: Validation split, on which candidates are evaluated.
        reference: Probabilities of fp32 for it, float32 (n, classes).
        spec: Specification of the model.
        target: Processors that the int8 model is for.
        max_drop: Largest loss of validation accuracy, in percentage points; None for the default.
        tune: Fine-tunes an int8 graph; None for no fine-tuning.
        measure_latency: Measures a candidate's speed against fp32, if this machine is one of the target's processors.
    """

    def __init__(
        self,
        graph: ModelProto,
        fp32: bytes,
        pictures: NDArray[np.uint8],
        val: Split,
        reference: NDArray[np.float32],
        spec: Spec,
        target: Target,
        max_drop: float | None,
        tune: Callable[[ModelProto], ModelProto] | None = None,
        measure_latency: Measure = measure,
    ) -> None:
        self.graph = graph
        self.val = val
        self.reference = reference
        self.spec = spec
        self.target = target
        self.max_drop = max_drop
        self.tune = tune
        self.measure_latency = measure_latency
        self.batches = normalised(pictures, spec)
        with console.progress("calibrating", 2 * len(pictures)) as advance:
            self.statistics = collect(graph, self.batches, advance)
        self.fp32 = open_model(fp32, device="cpu")

    def run(self, seconds: float = SEARCH_SECONDS) -> SearchResult:
        """Search for at most ``seconds``, and return the best candidate.

        At least one candidate is evaluated. Fine-tuning is not limited by ``seconds``.
        """
        start = time.perf_counter()
        trials: list[_Trial] = []
        planned, slow = self._try_fully_int8(trials, start + seconds)
        fast = [trial for trial in trials if trial.recipe.per_channel not in slow]
        pointless = meaningless(trials[0].candidate.validation)  # whatever is tried, nothing can ship
        if fast and not pointless:
            nearest = fast[closest([trial.candidate for trial in fast])].recipe
            planned += self._refine(nearest, trials, start + seconds)
        candidates = [trial.candidate for trial in trials]
        winner = choose(candidates)
        out_of_time = planned > len(candidates)
        ended_early = ""
        if not out_of_time and not fast:
            ended_early = _not_faster(trials)
        elif not out_of_time and pointless:
            ended_early = f"no layers were kept in fp32 or fine-tuned: {pointless}"
        spent = time.perf_counter() - start
        best = trials[winner]
        if (probabilities := best.probabilities) is None:  # another one was best in between
            _, _, evaluate = self._open(best.model)
            probabilities = evaluate(self.val.images, None).probabilities
        return SearchResult(candidates, winner, best.model, probabilities, planned, spent, ended_early)

    def _try_fully_int8(self, trials: list[_Trial], until: float) -> tuple[int, set[bool]]:
        """Try the recipes without fp32 layers; return how many are worth trying, and the ``per_channel`` values of the
        structures that are not faster than fp32.
        """
        recipes = list(fully_int8())
        slow: set[bool] = set()
        known: set[bool] = set()
        with console.progress("searching int8", len(recipes), unit="candidates") as advance:
            for recipe in recipes:
                if recipe.per_channel not in slow:
                    if trials and time.perf_counter() > until:
                        break
                    self._try(recipe, trials)
                    if recipe.per_channel not in known and not is_faster(trials[-1].candidate.latency):
                        slow.add(recipe.per_channel)
                    known.add(recipe.per_channel)
                advance(1)
        tried = {trial.recipe for trial in trials}
        return sum(recipe in tried or recipe.per_channel not in slow for recipe in recipes), slow

    def _refine(self, recipe: Recipe, trials: list[_Trial], until: float) -> int:
        """Try fine-tuning, and layers in fp32 if nothing ships; return how many more candidates are worth trying."""
        planned = 0
        if self.tune is not None:
            planned += 1
            self._try(replace(recipe, fine_tuned=True), trials)
        if not all(trial.candidate.verdict.rejected for trial in trials):
            return planned
        layers = list(_layers(self.graph))
        order = self._most_sensitive_first(layers, recipe, until)
        for count in range(1, len(layers)):
            if time.perf_counter() > until:
                return planned + len(layers) - count
            planned += 1
            floats = tuple(name for index in order[:count] for name in layers[index])
            self._try(replace(recipe, floats=floats), trials)
            latest = trials[-1].candidate
            if not latest.verdict.rejected or not is_faster(latest.latency):
                break
        return planned

    def _try(self, recipe: Recipe, trials: list[_Trial]) -> None:
        model = self._make(recipe)
        candidate, probabilities = self._evaluate(recipe, model)
        trials.append(_Trial(recipe, candidate, model, probabilities))
        best = trials[choose([trial.candidate for trial in trials])]
        trials[:] = [trial if trial is best else replace(trial, probabilities=None) for trial in trials]

    def _make(self, recipe: Recipe) -> ModelProto:
        quantized = quantize(self.graph, self.statistics, self.batches, self.spec, recipe, self.target)
        if recipe.correct_biases:
            correct_biases(quantized, self.graph, self.statistics)
        if recipe.fine_tuned and self.tune is not None:
            quantized = self.tune(quantized)
        result = keep_contract(quantized, self.spec)
        wide = ModelProto()
        wide.CopyFrom(result)
        # on wide pixels other weights are neighbours, and fine-tuned ones may overflow there
        if widen_pixels(wide) and not (self.target.limit_pairs and prove(wide).outside):
            result = wide
        keep_float_layers(result)
        return result

    def _open(self, model: ModelProto) -> tuple[bytes, Model, Evaluate]:
        data = with_metadata(model, self.spec)
        opened = open_model(data, device="cpu")
        return data, opened, evaluator(model, opened, self.target)

    def _evaluate(self, recipe: Recipe, model: ModelProto) -> tuple[Candidate, NDArray[np.float32]]:
        data, opened, evaluate = self._open(model)
        probabilities = evaluate(self.val.images, None).probabilities
        validation = compare(self.reference, probabilities, self.val.labels)
        latency = self._measure(opened)
        verdict = decide(validation, latency, self.max_drop)
        if not np.isfinite(probabilities).all():
            verdict = replace(verdict, good_enough=False, reason="a probability is not a number")
        candidate = Candidate(
            name=str(recipe),
            floats=recipe.floats,
            strays=tuple(str(stray) for stray in strays(optimised(data), self._with_outputs(recipe.floats))),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            divergence=divergence(self.reference, probabilities),
            validation=validation,
            latency=latency,
            verdict=verdict,
        )
        return candidate, probabilities

    def _measure(self, opened: Model) -> list[Timing]:
        """Measure the speed of a candidate: once if it is faster than fp32, else the median of several measurements.

        One slow moment of the machine must not reject a structure. The speed of a model for other processors is not
        measured.
        """
        if not is_here(self.target):
            return []
        measured = [self.measure_latency(self.fp32, opened, self.val.images)]
        if is_faster(measured[0]):
            return measured[0]
        measured += [self.measure_latency(self.fp32, opened, self.val.images) for _ in range(MEASUREMENTS - 1)]
        by_batch = zip(*measured, strict=True)
        return [sorted(entries, key=lambda entry: entry.speedup)[MEASUREMENTS // 2] for entries in by_batch]

    def _with_outputs(self, nodes: tuple[str, ...]) -> set[str]:
        """The names of nodes and of their output tensors."""
        outputs = {name for node in self.graph.graph.node if node.name in nodes for name in node.output}
        return outputs.union(nodes)

    def _most_sensitive_first(self, layers: Sequence[tuple[str, ...]], recipe: Recipe, until: float) -> list[int]:
        """Indices of ``layers``, sorted by the divergence when only that layer is quantized, the largest first.

        (Wu et al., 2020, "Integer Quantization for Deep Learning Inference", arXiv:2004.09602.) Layers
        that were not evaluated by ``until`` are left out.
        """
        # classes in turn, because the pictures of a folder are sorted by class
        sample = classes_in_turn(self.val.labels, np.arange(len(self.val.labels)))[:SENSITIVITY_PICTURES]
        pictures, reference = self.val.images[sample], self.reference[sample]
        caused = []
        with console.progress("finding sensitive layers", len(layers), unit="layers") as advance:
            for layer in layers:
                if time.perf_counter() > until:
                    break
                others = tuple(name for other in layers if other != layer for name in other)
                _, _, evaluate = self._open(self._make(replace(recipe, floats=others)))
                caused.append(divergence(reference, evaluate(pictures, None).probabilities))
                advance(1)
        return [int(index) for index in np.argsort(-np.array(caused), kind="stable")]


def _layers(graph: ModelProto) -> Iterator[tuple[str, ...]]:
    """The node names of each layer: a convolution or matrix product, and the activations that read its output."""
    consumers = consumers_of(graph)
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            following = consumers.get(node.output[0], [])
            yield (node.name, *(user.name for user in following if user.op_type in ("Relu", "Clip")))


def _not_faster(trials: Sequence[_Trial]) -> str:
    """Why a search ended after one candidate of each structure."""
    speeds = "; ".join(f"{speed_text(trial.candidate.latency)} ({trial.recipe.structure})" for trial in trials)
    count = f"{len(trials)} candidate{'' if len(trials) == 1 else 's'}"
    return f"int8 is not faster on this machine: {speeds}; the search ended after {count}{slow_reason()}"
