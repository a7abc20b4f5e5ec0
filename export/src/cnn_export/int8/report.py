"""What the search found, on the test split: the part of an export's report that is about int8."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cnn_infer import Spec, open_model
from cnn_infer.model import SPEC_KEY
from cnn_infer.run_files import INT8_MODEL, REJECTED_MODEL
from cnn_train import Split

from cnn_export.graph.float_graph import with_metadata
from cnn_export.int8.search import Candidate, Found
from cnn_export.int8.targets import Target
from cnn_export.int8.verdict import Difference, Latency, Verdict, compare
from cnn_export.parity import FULL_BATCH, Outputs, find_flips, run_model


@dataclass(frozen=True)
class Int8:
    """What quantisation cost and brought.

    Attributes:
        file: Its name says whether it ships.
        bytes: Its size.
        target: The processors that it is for.
        recipe: The winner of the search, in words.
        calibration_pictures: That the ranges come from.
        validation: What the winner loses where it was chosen.
        test: What it loses on the test split, which nothing was chosen by.
        test_flips: The pictures whose class changed.
        latency: How fast it is here.
        verdict: Whether it ships, and why.
        strays: Nodes that ONNX Runtime runs in float between quantised ones, though nobody wanted it.
        floats: Nodes that the search left in float.
        candidates: All that were tried, in turn.
        planned: How many would have been tried without a limit on time.
        search_seconds: How long the search took.
    """

    file: str
    bytes: int
    target: str
    recipe: str
    calibration_pictures: int
    validation: Difference
    test: Difference
    test_flips: list[dict[str, Any]]
    latency: list[Latency]
    verdict: Verdict
    strays: tuple[str, ...]
    floats: tuple[str, ...]
    candidates: list[Candidate]
    planned: int
    search_seconds: float

    @property
    def certificate(self) -> dict[str, Any]:
        """What of it travels inside the model."""
        keys = ("target", "recipe", "calibration_pictures", "validation", "test", "latency", "verdict", "floats")
        document = asdict(self)
        return {key: document[key] for key in keys}


def on_test(
    found: Found, fp32: bytes, test: Split, spec: Spec, target: Target, calibration_pictures: int
) -> tuple[Int8, Outputs]:
    """Run the winner and fp32 on the test split; the report, with the size still to come, and what int8 gives."""
    winner = found.candidates[found.winner]
    quantized = with_metadata(found.model, spec, {SPEC_KEY: spec.to_json()})
    before, after = (run_model(open_model(data, device="cpu"), test.images, what="test") for data in (fp32, quantized))
    int8 = Int8(
        file=INT8_MODEL if winner.verdict.ships else REJECTED_MODEL,
        bytes=len(quantized),
        target=target.name,
        recipe=winner.name,
        calibration_pictures=calibration_pictures,
        validation=winner.validation,
        test=compare(before.probabilities, after.probabilities, test.labels),
        test_flips=find_flips(before, after, test.names, 0.0, FULL_BATCH),
        latency=winner.latency,
        verdict=winner.verdict,
        strays=winner.strays,
        floats=winner.floats,
        candidates=found.candidates,
        planned=found.planned,
        search_seconds=found.seconds,
    )
    return int8, after
