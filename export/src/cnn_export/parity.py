"""The parity check: an exported file must compute what PyTorch computes, for every test picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from cnn_infer import Model, console
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES
from numpy.typing import NDArray

from cnn_export.batches import batches

BATCHES = (1, 3)
"""Batch sizes that are checked besides the full one. A graph can be right for one batch size and wrong for others."""

FULL_BATCH = 128

LOGIT_TOLERANCE = 10.0
"""The tolerance of logits is this factor times the tolerance of probabilities times the largest logit. Logits are
compared too because a saturated softmax hides wrong logits.
"""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model for n pictures.

    Attributes:
        logits: float32 (n, classes).
        probabilities: float32 (n, classes).
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


Evaluate = Callable[[NDArray[np.uint8], str | None], Outputs]
"""Returns the outputs for pictures, uint8 (n, height, width, channels); the second argument titles a progress bar."""


@dataclass(frozen=True)
class Parity:
    """The comparison of a file with PyTorch on the same pictures.

    Attributes:
        images: Number of compared pictures.
        batch_sizes: Batch sizes at which all pictures were compared. Each figure below is the worst of them.
        tolerance: Largest accepted difference of a probability. :data:`LOGIT_TOLERANCE` gives that of logits.
        logits: Largest (``max``) and mean (``mean``) absolute difference of the logits.
        probabilities: Largest (``max``) and mean (``mean``) absolute difference of the probabilities.
        top1_agreement: Share of pictures with the same predicted class at every batch size, 0 to 1.
        flips: Pictures whose predicted class differs, from :func:`find_flips`.
        passed: Whether the file computes what was trained.
        reason: Why it does not; empty if it does.
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
    model: Model, pictures: NDArray[np.uint8], what: str | None = None, batch_size: int = FULL_BATCH
) -> Outputs:
    """Return the outputs of an open model.

    Args:
        model: The model.
        pictures: uint8 (n, height, width, channels).
        what: Title of a progress bar; None for no bar.
        batch_size: Pictures per call.
    """
    parts = []
    with console.progress(what, len(pictures)) if what else nullcontext(lambda _: None) as advance:
        for batch in batches(pictures, batch_size):
            parts.append(model.session.run([LOGITS, PROBABILITIES], {INPUT: batch}))
            advance(len(batch))
    return Outputs(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))


def check(reference: Outputs, found: Sequence[tuple[int, Outputs]], names: Sequence[str], tolerance: float) -> Parity:
    """Compare a file's outputs with PyTorch's.

    Args:
        reference: PyTorch's outputs, computed on the CPU in fp32.
        found: Each batch size with the file's outputs for the same pictures.
        names: Names of the pictures, for the list of flips.
        tolerance: Largest accepted difference of a probability.
    """
    logits = np.max([np.abs(outputs.logits - reference.logits) for _, outputs in found], axis=0)
    probabilities = np.max([np.abs(outputs.probabilities - reference.probabilities) for _, outputs in found], axis=0)
    flips = [flip for size, outputs in found for flip in find_flips(reference, outputs, names, tolerance, size)]
    flipped = {flip["picture"] for flip in flips}
    finite = all(np.isfinite(values).all() for values in (logits, probabilities))
    changed = list(dict.fromkeys(flip["picture"] for flip in flips if not flip["tie"]))
    reason = ""
    if not finite:
        reason = "an output is not a number"
    elif not probabilities.max() <= tolerance:
        worst = names[int(probabilities.max(axis=1).argmax())]
        reason = f"probabilities differ by up to {probabilities.max():.3g}, more than {tolerance:g} (at {worst})"
    elif not logits.max() <= (limit := LOGIT_TOLERANCE * tolerance * np.abs(reference.logits).max()):
        worst = names[int(logits.max(axis=1).argmax())]
        reason = f"logits differ by up to {logits.max():.3g}, more than {limit:.3g} (at {worst})"
    elif len(changed) == 1:
        reason = f"1 test picture changes its class: {changed[0]}"
    elif changed:
        reason = f"{len(changed):,} test pictures change their class; the first is {changed[0]}"
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
    """Find the pictures whose predicted class differs.

    Args:
        reference: Outputs of the model to compare with.
        found: Outputs of the other model for the same pictures.
        names: Names of the pictures.
        tolerance: Two probabilities of ``reference`` that differ by no more count as a tie.
        batch_size: Batch size of ``found``, for the report.

    Returns:
        For each such picture: its name, ``batch_size``, the two class indices, the confidence of each model in its own
        prediction, and whether the two classes tie in ``reference``.
    """
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
