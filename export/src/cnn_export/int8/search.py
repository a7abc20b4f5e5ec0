"""The search for the best int8 form: every way is judged on validation pictures, by what it loses and how fast it is.

First all ways that keep the whole network in int8. Where none of them is good enough, the layers that lose most go
back to float, one after the other, as long as the rest is still faster than float.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from cnn_infer import Model, console, open_model
from cnn_infer.model import SPEC_KEY
from cnn_infer.spec import Spec
from cnn_train import Split
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.graph.float_graph import keep_contract, with_metadata
from cnn_export.graph.passes import consumers_of
from cnn_export.graph.runtime_graph import optimised, strays
from cnn_export.int8.bias import correct_biases
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import METHODS, collect
from cnn_export.int8.targets import Target
from cnn_export.int8.verdict import MIN_SPEEDUP, Difference, Latency, Verdict, compare, decide, measure
from cnn_export.parity import run_model
from cnn_export.selection import classes_in_turn

SECONDS = 120.0
"""How long a search looks for something better unless told otherwise."""

SAME_SPEED = 0.05
"""Speed-ups that differ by less than this share count as equal: so much do two measurements of one file differ."""

SENSITIVITY_PICTURES = 512


@dataclass(frozen=True)
class Candidate:
    """One int8 form, judged.

    Attributes:
        name: The recipe in words.
        floats: Nodes that stay float on purpose.
        strays: Nodes that ONNX Runtime runs in float between quantised ones all the same, and why.
        bytes: Size of the file, without golden pictures.
        sha256: Of these bytes: equal runs make equal candidates.
        divergence: Mean Kullback-Leibler divergence of its validation probabilities from those of fp32, in nats.
        validation: What it loses.
        latency: How fast it is here.
        verdict: Whether it may ship, and why.
    """

    name: str
    floats: tuple[str, ...]
    strays: tuple[str, ...]
    bytes: int
    sha256: str
    divergence: float
    validation: Difference
    latency: list[Latency]
    verdict: Verdict

    @property
    def speedup(self) -> float:
        """The least of its speed-ups over fp32."""
        return min(entry.speedup for entry in self.latency)


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        candidates: All that were judged, in the order in which they were tried.
        winner: Its place among them.
        model: The winner.
        planned: How many would have been judged without a limit on time.
        seconds: How long it took.
    """

    candidates: list[Candidate]
    winner: int
    model: ModelProto
    planned: int
    seconds: float


class Search:
    """Makes candidates of one float graph and judges them.

    Args:
        graph: Float graph.
        fp32: The fp32 file.
        pictures: Training pictures to calibrate on, uint8 (n, h, w, c).
        val: What candidates are judged on.
        spec: Of the model.
        target: For which processors.
        max_drop: Percentage points of validation accuracy that may be lost; None for the default.
        tune: Trains an int8 graph of the float one; None for no fine-tuning.
    """

    def __init__(
        self,
        graph: ModelProto,
        fp32: bytes,
        pictures: NDArray[np.uint8],
        val: Split,
        spec: Spec,
        target: Target,
        max_drop: float | None,
        tune: Callable[[ModelProto], ModelProto] | None = None,
    ) -> None:
        self.graph = graph
        self.val = val
        self.spec = spec
        self.target = target
        self.max_drop = max_drop
        self.tune = tune
        self.batches = normalised(pictures, spec)
        with console.progress("calibrating", 2 * len(pictures)) as advance:
            self.statistics = collect(graph, self.batches, advance)
        self.fp32 = open_model(fp32, device="cpu")
        self.reference = run_model(self.fp32, val.images, what="validation").probabilities

    def run(self, seconds: float = SECONDS) -> Found:
        """Try all recipes in turn, as many as there is time for, and at least one; fine-tuning comes on top."""
        start = time.perf_counter()
        recipes = list(in_integers())
        candidates: list[Candidate] = []
        models: list[ModelProto] = []
        with console.progress("searching int8", len(recipes), unit="candidates") as advance:
            for recipe in recipes:
                if candidates and time.perf_counter() - start > seconds:
                    break
                self._try(recipe, candidates, models)
                advance(1)
        planned, nearest = len(recipes), recipes[_closest(candidates)]
        if self.tune is not None:
            planned += 1
            self._try(replace(nearest, fine_tuned=True), candidates, models)
        if not any(candidate.verdict.ships for candidate in candidates):
            layers = self._sensitive(nearest, start + seconds)
            for count in range(1, len(layers)):
                if time.perf_counter() - start > seconds:
                    planned += len(layers) - count
                    break
                planned += 1
                floats = tuple(name for layer in layers[:count] for name in layer)
                self._try(replace(nearest, floats=floats), candidates, models)
                if candidates[-1].verdict.ships or candidates[-1].speedup < MIN_SPEEDUP:
                    break
        winner = choose(candidates)
        return Found(candidates, winner, models[winner], planned, time.perf_counter() - start)

    def _try(self, recipe: Recipe, candidates: list[Candidate], models: list[ModelProto]) -> None:
        model = self._made(recipe)
        candidates.append(self._judged(recipe, model))
        models.append(model)

    def _made(self, recipe: Recipe) -> ModelProto:
        quantized = quantize(self.graph, self.statistics, self.batches, self.spec, recipe, self.target)
        if recipe.correct_biases:
            correct_biases(quantized, self.graph, self.statistics)
        if recipe.fine_tuned and self.tune is not None:
            quantized = self.tune(quantized)
        return keep_contract(quantized, self.spec)

    def _opened(self, model: ModelProto) -> tuple[bytes, Model]:
        data = with_metadata(model, self.spec, {SPEC_KEY: self.spec.to_json()})
        return data, open_model(data, device="cpu")

    def _judged(self, recipe: Recipe, model: ModelProto) -> Candidate:
        data, opened = self._opened(model)
        probabilities = run_model(opened, self.val.images).probabilities
        validation = compare(self.reference, probabilities, self.val.labels)
        latency = measure(self.fp32, opened, self.val.images)
        verdict = decide(validation, latency, self.max_drop)
        if not np.isfinite(probabilities).all():
            verdict = Verdict(False, False, "a probability is not a number", verdict.allowed_drop_points)
        return Candidate(
            name=str(recipe),
            floats=recipe.floats,
            strays=tuple(str(stray) for stray in strays(optimised(data), self._called(recipe.floats))),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            divergence=divergence(self.reference, probabilities),
            validation=validation,
            latency=latency,
            verdict=verdict,
        )

    def _called(self, floats: tuple[str, ...]) -> set[str]:
        """The names of nodes, and of what they make."""
        made = {name for node in self.graph.graph.node if node.name in floats for name in node.output}
        return made.union(floats)

    def _sensitive(self, recipe: Recipe, until: float) -> list[tuple[str, ...]]:
        """Layers, each with the activation behind it, by how much nearer to fp32 the network is with them in float."""
        # of all classes: the pictures of a folder come class by class
        some = classes_in_turn(self.val.labels, np.arange(len(self.val.labels)))[:SENSITIVITY_PICTURES]
        pictures, reference = self.val.images[some], self.reference[some]
        layers = list(_layers(self.graph))
        losses = []
        with console.progress("looking for sensitive layers", len(layers), unit="layers") as advance:
            for layer in layers:
                if time.perf_counter() > until:
                    break
                _, opened = self._opened(self._made(replace(recipe, floats=layer)))
                losses.append(divergence(reference, run_model(opened, pictures).probabilities))
                advance(1)
        return [layers[int(place)] for place in np.argsort(losses, kind="stable")]


def in_integers() -> Iterator[Recipe]:
    """All recipes without float layers, the most promising first."""
    for per_channel in (True, False):
        for correct in (False, True):
            for ranges in METHODS:
                yield Recipe(ranges, per_channel, correct)


def _layers(graph: ModelProto) -> Iterator[tuple[str, ...]]:
    users = consumers_of(graph)
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            behind = users.get(node.output[0], [])
            yield (node.name, *(user.name for user in behind if user.op_type in ("Relu", "Clip")))


def divergence(reference: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence, in nats, of rows of probabilities, float32 (n, classes); infinite for NaN."""
    if not np.isfinite(found).all():
        return math.inf
    p, q = (np.maximum(values.astype(np.float64), 1e-12) for values in (reference, found))
    return float((p * np.log(p / q)).sum(axis=1).mean())


def _closest(candidates: Sequence[Candidate]) -> int:
    return min(range(len(candidates)), key=lambda place: candidates[place].divergence)


def choose(candidates: Sequence[Candidate]) -> int:
    """The place of the best: of those that may ship and are about as fast as the fastest, the one nearest to fp32.

    How near is taken from the probabilities, not from the number of pictures lost: among many candidates the one that
    loses fewest does so by chance. Where none may ship, of those within the allowed drop the fastest, else the nearest.
    """
    places = range(len(candidates))
    ship = [place for place in places if candidates[place].verdict.ships]
    if ship:
        fastest = max(candidates[place].speedup for place in ship)
        fast = [place for place in ship if candidates[place].speedup >= (1 - SAME_SPEED) * fastest]
        return min(fast, key=lambda place: candidates[place].divergence)
    good = [place for place in places if candidates[place].verdict.good_enough]
    if good:
        return max(good, key=lambda place: candidates[place].speedup)
    return _closest(candidates)
