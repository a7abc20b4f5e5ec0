"""The finished model file: a graph with its specification, its certificate, golden pictures and conformance files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier, Spec, verify_all
from cnn_infer.model import CONFORMANCE_KEY, GOLDEN_KEY
from cnn_infer.pixels.convert import STAGES as PIXEL_STAGES
from cnn_infer.proof import golden
from cnn_train import Source, Split
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.conformance.draw import PictureFile
from cnn_export.conformance.pack import Probabilities, conformance_files, own_files
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
        most: Largest number of golden pictures. With 0 the model carries no ``files`` either.
        files: Some test pictures as files.
    """

    images: NDArray[np.uint8]
    order: NDArray[np.int64]
    most: int
    files: Sequence[PictureFile] = ()


def golden_pictures(spec: Spec, source: Source, test: Split, reference: Outputs, most: int) -> GoldenPictures:
    """Order the test pictures: correct and clear ones first, from all classes in turn.

    There are more candidates than ``most`` because some may be too large to be stored.
    """
    ranked = np.sort(reference.probabilities, axis=1)
    correct = reference.logits.argmax(axis=1) == test.labels
    clear = (ranked[:, -1] - ranked[:, -2] > CLEAR_MARGIN) & correct
    order = classes_in_turn(test.labels, np.argsort(~clear, kind="stable"))
    return GoldenPictures(test.images, order[: 8 * golden.MAX_PICTURES], most, own_files(source, spec, most))


def finished_spec(spec: Spec, precision: str, certificate: Mapping[str, Any]) -> Spec:
    """Return the specification for the model file: with the certificate, without paths of this machine.

    Args:
        spec: The specification of the network.
        precision: ``fp32``, ``fp16`` or ``int8``.
        certificate: From :func:`cnn_export.proof.certificate_of`.
    """
    data = {key: value for key, value in spec.details["data"].items() if key != "location"}
    paths = ("data", "data_dir", "cache")
    settings = {key: value for key, value in spec.details["settings"].items() if key not in paths}
    details = {**spec.details, "data": data, "settings": settings, "precision": precision, "parity": certificate}
    return replace(spec, details=details)


def model_file(
    folder: Path,
    model: ModelProto,
    spec: Spec,
    pictures: GoldenPictures,
    probabilities: NDArray[np.float32],
    compute: Probabilities | None = None,
) -> bytes:
    """Return the bytes of a model file, after it replayed its own golden pictures and conformance files.

    Args:
        folder: The folder of the export.
        model: The graph.
        spec: From :func:`finished_spec`.
        pictures: From :func:`golden_pictures`.
        probabilities: Expected probabilities of all test pictures, float32 (n, classes).
        compute: The model's arithmetic on the processors that it is for, if this machine has another one: then
            only the pixels are replayed here.

    Raises:
        ParityError: the file does not give what it must give.
    """
    data, reason = replayed_file(model, spec, pictures, probabilities, compute)
    if reason:
        raise parity_failure(folder, reason, {})
    return data


def replayed_file(
    model: ModelProto,
    spec: Spec,
    pictures: GoldenPictures,
    probabilities: NDArray[np.float32],
    compute: Probabilities | None = None,
) -> tuple[bytes, str]:
    """Return the bytes of a model file, and why it does not replay its own pictures; empty if it does.

    Args:
        model: As for :func:`model_file`, like the rest.
        spec: From :func:`finished_spec`.
        pictures: From :func:`golden_pictures`.
        probabilities: Expected probabilities of all test pictures, float32 (n, classes).
        compute: The model's arithmetic on other processors.
    """
    packed = golden.pack(pictures.images[pictures.order], probabilities[pictures.order], pictures.most)
    alone = Classifier(with_metadata(model, spec), device="cpu")
    files = conformance_files(pictures.files if pictures.most else (), spec, compute or alone.probabilities)
    data = with_metadata(model, spec, {GOLDEN_KEY: packed, CONFORMANCE_KEY: files})
    for deviation in verify_all(Classifier(data, device="cpu")).deviations:
        if compute is None or deviation.stage in PIXEL_STAGES:
            reason = f"the file does not replay its own pictures: {deviation.stage} of {deviation.picture}"
            return data, f"{reason}: {deviation.reason}"
    if packed == "[]" and pictures.most:
        log.info(
            f"the model has no golden pictures for --verify: no test picture fits into {golden.MAX_BYTES >> 10} KiB"
        )
    return data, ""
