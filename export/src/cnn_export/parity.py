"""Parity: does the exported file compute what PyTorch computes, on every test picture?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from cnn_infer import Model, console
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES
from numpy.typing import NDArray

BATCHES = (1, 3)
"""Batch sizes besides the full one: a graph may be right for the size it was traced with and wrong for others."""

FULL_BATCH = 128

LOGIT_TOLERANCE = 10.0
"""Logits may differ by this much times the tolerance, relative to the largest: where the softmax is saturated,
probabilities alone would not show a wrong graph.
"""


@dataclass(frozen=True)
class Outputs:
    """``logits`` and ``probabilities``, each float32 (n, classes)."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """The comparison of one file with PyTorch on the same pictures.

    Attributes:
        images: Test pictures compared.
        batch_sizes: Each of these ran over all of them; the figures are the worst of them.
        tolerance: Largest difference of a probability that passes; :data:`LOGIT_TOLERANCE` relates logits to it.
        logits: ``max`` and ``mean`` absolute difference.
        probabilities: ``max`` and ``mean`` absolute difference.
        top1_agreement: Share of pictures with the same class, 0 to 1.
        flips: Pictures whose class changed, with both confidences, and whether it was a tie within the tolerance.
        passed: Whether the file computes what was trained.
        reason: Why not, or an empty text.
    """

    images: int
    batch_sizes: tuple[int, ...]
    tolerance: float
    logits: dict[str, float]
    probabilities: dict[str, float]
    top1_agreement: float
    flips: list[dict[str, Any]]
    passed: bool
    reason: str


def run_model(
    model: Model, pictures: NDArray[np.uint8], batch_size: int = FULL_BATCH, what: str | None = None
) -> Outputs:
    """Both outputs of an open model for uint8 ``pictures`` (n, h, w, c); ``what`` is the title of a progress bar."""
    parts = []
    with console.progress(what, len(pictures)) if what else nullcontext(lambda _: None) as advance:
        for start in range(0, len(pictures), batch_size):
            batch = np.ascontiguousarray(pictures[start : start + batch_size])
            parts.append(model.session.run([LOGITS, PROBABILITIES], {INPUT: batch}))
            advance(len(batch))
    return Outputs(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))


def check(reference: Outputs, found: Sequence[tuple[int, Outputs]], names: Sequence[str], tolerance: float) -> Parity:
    """Compare what PyTorch gave with what the file gave at each batch size.

    Args:
        reference: PyTorch's outputs, on the CPU in fp32.
        found: (batch size, outputs) of the same pictures.
        names: The pictures' names, for the list of flips.
        tolerance: Largest difference of a probability that passes.
    """
    logits = np.max([np.abs(outputs.logits - reference.logits) for _, outputs in found], axis=0)
    probabilities = np.max([np.abs(outputs.probabilities - reference.probabilities) for _, outputs in found], axis=0)
    flips = [flip for size, outputs in found for flip in find_flips(reference, outputs, names, tolerance, size)]
    flipped = {flip["picture"] for flip in flips}
    finite = all(np.isfinite(values).all() for values in (logits, probabilities))
    real = [flip for flip in flips if not flip["tie"]]
    reason = ""
    if not finite:
        reason = "an output is not a number"
    elif not probabilities.max() <= tolerance:
        worst = names[int(probabilities.max(axis=1).argmax())]
        reason = f"probabilities differ by up to {probabilities.max():.3g}, more than {tolerance:g} (at {worst})"
    elif not logits.max() <= (limit := LOGIT_TOLERANCE * tolerance * np.abs(reference.logits).max()):
        worst = names[int(logits.max(axis=1).argmax())]
        reason = f"logits differ by up to {logits.max():.3g}, more than {limit:.3g} (at {worst})"
    elif real:
        reason = f"{len(real)} pictures change their class, the first is {real[0]['picture']}"
    return Parity(
        images=len(reference.logits),
        batch_sizes=tuple(size for size, _ in found),
        tolerance=tolerance,
        logits={"max": float(logits.max()), "mean": float(logits.mean())},
        probabilities={"max": float(probabilities.max()), "mean": float(probabilities.mean())},
        top1_agreement=1 - len(flipped) / len(reference.logits),
        flips=flips,
        passed=not reason,
        reason=reason,
    )


def find_flips(
    reference: Outputs, found: Outputs, names: Sequence[str], tolerance: float, batch_size: int
) -> list[dict[str, Any]]:
    """The pictures whose class differs, with the two classes' indices and confidences."""
    before, after = reference.probabilities.argmax(axis=1), found.probabilities.argmax(axis=1)
    flips = []
    for index in np.flatnonzero(before != after):
        row = reference.probabilities[index]
        flips.append(
            {
                "picture": names[int(index)],
                "batch_size": batch_size,
                "from": int(before[index]),
                "to": int(after[index]),
                "confidence_before": float(row[before[index]]),
                "confidence_after": float(found.probabilities[index, after[index]]),
                "tie": bool(row[before[index]] - row[after[index]] <= tolerance),
            }
        )
    return flips
