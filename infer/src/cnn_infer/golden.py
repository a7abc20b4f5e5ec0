"""Golden pictures: a few test pictures inside the model, with the probabilities it must give for them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cnn_infer.classifier import Classifier
from cnn_infer.errors import EdgeCNNError, ModelError
from cnn_infer.model import GOLDEN_KEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PICTURES = 8
MAX_BYTES = 64 << 10
"""Golden pictures take at most this many bytes of a model, as they stand in its metadata."""

TOLERANCE = {"fp32": 1e-4, "int8": 0.02}
"""Largest difference of a probability. An int8 model must also name the same class."""


@dataclass(frozen=True)
class Replay:
    """One golden picture on this machine.

    Attributes:
        expected: The class that the exporting machine named.
        found: The class that this machine names.
        difference: The largest absolute difference of a probability.
        passed: Whether it is within the tolerance.
    """

    expected: str
    found: str
    difference: float
    passed: bool


def pack(pictures: NDArray[np.uint8], probabilities: NDArray[np.float32], limit: int = MAX_PICTURES) -> str:
    """The metadata text for ``pictures``, uint8 (n, h, w, c), and their ``probabilities``, float32 (n, classes).

    Takes the first ``limit`` that fit in :data:`MAX_BYTES` together; large ones are passed over.
    """
    packed: list[dict[str, object]] = []
    for picture, row in zip(pictures, probabilities, strict=True):
        if len(packed) == limit:
            break
        stream = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(stream, "PNG", optimize=True)
        entry: dict[str, object] = {
            "png": base64.b64encode(stream.getvalue()).decode(),
            "probabilities": [round(float(value), 7) for value in row],
        }
        if len(json.dumps([*packed, entry])) > MAX_BYTES:
            continue
        packed.append(entry)
    return json.dumps(packed)


def verify(classifier: Classifier) -> Sequence[Replay]:
    """Classify the model's golden pictures on this machine and compare with what it must give.

    Raises:
        ModelError: the model carries no golden pictures, or they are damaged.
    """
    tolerance = TOLERANCE["int8" if classifier.spec.details.get("precision") == "int8" else "fp32"]
    try:
        entries = json.loads(classifier.model.metadata.get(GOLDEN_KEY, "[]"))
        pictures = [base64.b64decode(entry["png"], validate=True) for entry in entries]
        expected = np.array([entry["probabilities"] for entry in entries], np.float32)
        if entries and expected.shape != (len(entries), len(classifier.spec.classes)):
            raise ValueError(f"probabilities of shape {expected.shape}")
        found = [classifier.probabilities(classifier.pixels(picture)[None])[0] for picture in pictures]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, EdgeCNNError) as error:
        raise ModelError(f"the model's golden pictures are damaged: {error}") from error
    if not entries:
        raise ModelError("the model carries no golden pictures: they were too large, or left out with --golden 0")
    return [_compare(classifier, *pair, tolerance) for pair in zip(expected, found, strict=True)]


def _compare(
    classifier: Classifier, expected: NDArray[np.float32], found: NDArray[np.float32], tolerance: float
) -> Replay:
    names = classifier.spec.classes
    difference = float(np.abs(found - expected).max())
    want, have = int(expected.argmax()), int(found.argmax())
    # NaN compares false with everything, so it fails; near-ties within the tolerance may change places in fp32
    passed = difference <= tolerance and (want == have or tolerance < 0.01)
    return Replay(names[want], names[have], difference, passed)
