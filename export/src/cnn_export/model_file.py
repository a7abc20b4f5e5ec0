"""The finished model file: a graph with its specification, its certificate and its golden pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cnn_infer import Spec, golden, verify
from cnn_infer.classifier import Classifier
from cnn_infer.model import GOLDEN_KEY, SPEC_KEY
from cnn_train import Run, Split
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.graph.float_graph import with_metadata
from cnn_export.parity import Outputs
from cnn_export.reports import parity_failure
from cnn_export.selection import classes_in_turn

log = logging.getLogger(__name__)

CLEAR_MARGIN = 0.2
"""Difference of the two largest probabilities above which a golden picture is clear: no rounding flips its class."""


@dataclass(frozen=True)
class GoldenPictures:
    """Test pictures to choose the golden pictures from.

    Attributes:
        images: All test pictures, uint8 (n, height, width, channels).
        order: Indices of candidates, int64 (at most n,), the best first.
        most: Largest number of golden pictures.
    """

    images: NDArray[np.uint8]
    order: NDArray[np.int64]
    most: int


def golden_pictures(test: Split, reference: Outputs, most: int) -> GoldenPictures:
    """Order the test pictures: correct and clear ones first, from all classes in turn.

    There are more candidates than ``most`` because some may be too large to be stored.
    """
    ranked = np.sort(reference.probabilities, axis=1)
    correct = reference.logits.argmax(axis=1) == test.labels
    clear = (ranked[:, -1] - ranked[:, -2] > CLEAR_MARGIN) & correct
    order = classes_in_turn(test.labels, np.argsort(~clear, kind="stable"))
    return GoldenPictures(test.images, order[: 8 * golden.MAX_PICTURES], most)


def finished_spec(spec: Spec, precision: str, certificate: Mapping[str, Any]) -> Spec:
    """Return the specification for the model file: with the certificate, without paths of this machine.

    Args:
        spec: The specification of the run.
        precision: ``fp32`` or ``int8``.
        certificate: From :func:`cnn_export.proof.certificate_of`.
    """
    data = {key: value for key, value in spec.details["data"].items() if key != "location"}
    paths = ("data", "data_dir", "cache")
    settings = {key: value for key, value in spec.details["settings"].items() if key not in paths}
    details = {**spec.details, "data": data, "settings": settings, "precision": precision, "parity": certificate}
    return replace(spec, details=details)


def model_file(
    run: Run, model: ModelProto, spec: Spec, pictures: GoldenPictures, probabilities: NDArray[np.float32]
) -> bytes:
    """Return the bytes of a model file, after it classified its own golden pictures.

    Args:
        run: The run that is exported.
        model: The graph.
        spec: From :func:`finished_spec`.
        pictures: From :func:`golden_pictures`.
        probabilities: Expected probabilities of all test pictures, float32 (n, classes).

    Raises:
        ParityError: the file does not give these probabilities for its golden pictures.
    """
    packed = golden.pack(pictures.images[pictures.order], probabilities[pictures.order], pictures.most)
    data = with_metadata(model, spec, {SPEC_KEY: spec.to_json(), GOLDEN_KEY: packed})
    classifier = Classifier(data, device="cpu")
    if packed != "[]" and not all(replay.passed for replay in verify(classifier)):
        raise parity_failure(run, "the file does not give the expected probabilities for its golden pictures", {})
    if packed == "[]" and pictures.most:
        log.info(
            f"the model has no golden pictures for --verify: no test picture fits into {golden.MAX_BYTES >> 10} KiB"
        )
    return data
