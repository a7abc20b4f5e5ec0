"""The int8 part of an export's report: the winner of the search, evaluated on the test split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cnn_infer import Spec, open_model
from cnn_infer.run_files import INT8_MODEL, REJECTED_MODEL
from cnn_train import Split

from cnn_export.graph.float_graph import with_metadata
from cnn_export.int8.arithmetic import evaluator
from cnn_export.int8.candidates import Candidate
from cnn_export.int8.overflow import prove
from cnn_export.int8.search import SearchResult
from cnn_export.int8.targets import Target
from cnn_export.int8.verdict import NOT_MEASURED, Difference, Timing, Verdict, compare
from cnn_export.parity import FULL_BATCH, Evaluate, Outputs, find_flips

IN_CERTIFICATE = (
    "target",
    "recipe",
    "calibration_pictures",
    "validation",
    "test",
    "speed",
    "latency",
    "verdict",
    "floats",
    "integers",
)
"""The entries of the report that are stored inside the model file."""


@dataclass(frozen=True)
class Int8:
    """What the quantization costs and what it gains.

    Attributes:
        file: File name, which tells whether the model was rejected.
        bytes: Size of the file.
        target: Processors that it is for.
        recipe: Recipe of the winner, in words.
        calibration_pictures: Number of calibration pictures.
        validation: Comparison with fp32 on the validation split, on which the winner was chosen.
        test: Comparison with fp32 on the test split, on which nothing was chosen.
        test_flips: Test pictures whose predicted class changed.
        speed: Whether the speed was measured, in words.
        latency: Speed on this machine, one entry per batch size; empty if it was not measured.
        verdict: Whether it ships, and why.
        strays: Nodes between quantized ones that ONNX Runtime runs in fp32 although the recipe quantizes them.
        floats: Nodes that the recipe keeps in fp32.
        integers: Whether the file computes the same integers on every processor, layer by layer:
            :attr:`cnn_export.int8.overflow.Proof.certificate`.
        candidates: All candidates, in the order in which they were tried.
        planned: Number of candidates that the search would have tried without a time limit.
        search_seconds: Duration of the search.
        ended_early: Why the search gave up before it tried every recipe; empty if it did not give up.
    """

    file: str
    bytes: int
    target: str
    recipe: str
    calibration_pictures: int
    validation: Difference
    test: Difference
    test_flips: list[dict[str, Any]]
    speed: str
    latency: list[Timing]
    verdict: Verdict
    strays: tuple[str, ...]
    floats: tuple[str, ...]
    integers: dict[str, Any]
    candidates: list[Candidate]
    planned: int
    search_seconds: float
    ended_early: str

    @property
    def certificate(self) -> dict[str, Any]:
        """The part of the report that is stored inside the model file."""
        document = asdict(self)
        return {key: document[key] for key in IN_CERTIFICATE}


def on_test(
    found: SearchResult, before: Outputs, test: Split, spec: Spec, target: Target, calibration_pictures: int
) -> tuple[Int8, Outputs, Evaluate]:
    """Evaluate the winner of a search on the test split.

    Args:
        found: The result of the search.
        before: The outputs of fp32 for the test pictures.
        test: The test split.
        spec: Specification of the model.
        target: Processors that the int8 model is for.
        calibration_pictures: Number of calibration pictures, for the report.

    Returns:
        The report, whose ``bytes`` do not count the golden pictures yet; the outputs of the int8 model, in the
        arithmetic of the target's processors; and the function that computed them.

    Raises:
        GraphError: the model is for any processor, but a sum of its products can overflow.
    """
    proof = prove(found.model)
    if target.limit_pairs:
        proof.check()
    winner = found.candidates[found.winner]
    quantized = with_metadata(found.model, spec)
    evaluate = evaluator(found.model, open_model(quantized, device="cpu"), target)
    after = evaluate(test.images, "test")
    int8 = Int8(
        file=REJECTED_MODEL if winner.verdict.rejected else INT8_MODEL,
        bytes=len(quantized),
        target=target.name,
        recipe=winner.name,
        calibration_pictures=calibration_pictures,
        validation=winner.validation,
        test=compare(before.probabilities, after.probabilities, test.labels),
        test_flips=find_flips(before, after, test.names, 0.0, FULL_BATCH),
        speed="measured on this machine" if winner.latency else NOT_MEASURED,
        latency=winner.latency,
        verdict=winner.verdict,
        strays=winner.strays,
        floats=winner.floats,
        integers=proof.certificate,
        candidates=found.candidates,
        planned=found.planned,
        search_seconds=found.seconds,
        ended_early=found.ended_early,
    )
    return int8, after, evaluate
