"""The output ``evidence`` of a model file: added, described in its specification, and proven on the test split."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from cnn_infer import Spec, console, open_model
from cnn_infer.model import INPUT, LOGITS
from cnn_infer.optional_outputs import EVIDENCE
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.batches import batches
from cnn_export.graph.evidence import add_evidence, head_of
from cnn_export.graph.float_graph import with_metadata
from cnn_export.graph.receptive_field import Field, receptive_field
from cnn_export.parity import FULL_BATCH
from cnn_export.reports import parity_failure

TOLERANCE = 1e-4
"""Largest accepted difference of evidence plus bias from a logit, relative to the largest logit, or absolute if that is
below 1. Both are the same numbers added up in another order, in fp32."""


@dataclass(frozen=True)
class EvidenceProof:
    """The proof that evidence and bias sum to the logits, in ONNX Runtime on this machine.

    Attributes:
        cells: Rows and columns of the last feature map.
        sees: Height and width of what a cell sees, in pixels of the input.
        images: Number of test pictures, all of them.
        largest_error: Largest difference from a logit.
        tolerance: Largest accepted difference.
    """

    cells: tuple[int, int]
    sees: tuple[float, float]
    images: int
    largest_error: float
    tolerance: float


def field_of(network: ModelProto) -> Field:
    """Return the receptive field of the cells of the last feature map.

    Args:
        network: The fp32 graph: an int8 graph may begin in another form.

    Raises:
        GraphError: the logits of the network are not sums over cells.
    """
    return receptive_field(network, f"{INPUT}_planes", head_of(network).features)


def with_evidence(
    folder: Path, model: ModelProto, spec: Spec, pictures: NDArray[np.uint8], field: Field
) -> tuple[ModelProto, Spec, EvidenceProof]:
    """Return a finished graph with the output ``evidence``, its specification, and the proof.

    The specification gets the description of the evidence, and its certificate gets the proof.

    Args:
        folder: The folder of the export.
        model: The graph of a model file, fp32 or int8.
        spec: Its specification, with a certificate.
        pictures: The test pictures, uint8 (n, height, width, channels).
        field: From :func:`field_of`.

    Raises:
        GraphError: the logits of the network are not sums over cells.
        ParityError: evidence and bias do not sum to the logits.
    """
    head = head_of(model)
    sides = (spec.height, spec.width)
    if field.axes is None:  # the cells divide the picture evenly, and each sees all of it
        step = [side / cells for side, cells in zip(sides, head.cells, strict=True)]
        placed = {
            "start": [(one - side) / 2 for one, side in zip(step, sides, strict=True)],
            "size": sides,
            "step": step,
        }
    else:
        placed = {key: [getattr(axis, key) for axis in field.axes] for key in ("start", "size", "step")}
    description = {
        "pooling": "maximum" if head.maximum else "mean",
        "cells": list(head.cells),
        "bias": head.bias.astype(np.float32).tolist(),
        "receptive_field": {**placed, "whole_picture": field.gated},
    }
    described = replace(spec, details={**spec.details, EVIDENCE: description})
    extended = add_evidence(model, head)
    proof = _prove(folder, extended, described, head.bias, pictures)
    certificate = {**spec.details["parity"], EVIDENCE: asdict(proof)}
    return extended, replace(described, details={**described.details, "parity": certificate}), proof


def _prove(
    folder: Path, model: ModelProto, spec: Spec, bias: NDArray[np.float64], pictures: NDArray[np.uint8]
) -> EvidenceProof:
    data = with_metadata(model, spec)
    session = open_model(data, device="cpu", outputs=[EVIDENCE]).session
    error = largest = 0.0
    with console.progress("evidence", len(pictures)) as advance:
        for batch in batches(pictures, FULL_BATCH):
            logits, evidence = session.run([LOGITS, EVIDENCE], {INPUT: batch})
            sums = evidence.sum((2, 3), dtype=np.float64) + bias
            error = float(np.maximum(error, np.abs(sums - logits).max()))  # keeps NaN
            largest = max(largest, float(np.abs(logits).max()))
            advance(len(batch))
    entry = spec.details[EVIDENCE]
    (rows, columns), (height, width) = entry["cells"], entry["receptive_field"]["size"]
    proof = EvidenceProof((rows, columns), (height, width), len(pictures), error, TOLERANCE * max(1.0, largest))
    if not proof.largest_error <= proof.tolerance:
        reason = f"evidence and bias differ from the logits by up to {error:.3g}, more than {proof.tolerance:.3g}"
        raise parity_failure(folder, reason, asdict(proof))
    return proof
