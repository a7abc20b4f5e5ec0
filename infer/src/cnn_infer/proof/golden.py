"""Golden pictures: a few test pictures in the model file, with the probabilities that the model must give for them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cnn_infer.classifier import Classifier
from cnn_infer.details import under
from cnn_infer.errors import EdgeCNNError, ModelError
from cnn_infer.model import GOLDEN_KEY
from cnn_infer.pixels.open import load, open_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Spec

MAX_PICTURES = 8
"""Largest number of golden pictures in a model."""

MAX_BYTES = 64 << 10
"""Largest size of the golden pictures and their probabilities in the model's metadata, in bytes."""

TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "int8": 0.02}
"""Largest accepted difference of a probability. Where it is 0.02, the class must be the same too."""


@dataclass(frozen=True)
class Replay:
    """The result for one golden picture on this machine.

    Attributes:
        expected: The most probable class at export.
        found: The most probable class on this machine.
        difference: The largest absolute difference of a probability, 0 to 1; NaN if the model gives NaN.
        passed: Whether both agree; see :func:`agree`.
    """

    expected: str
    found: str
    difference: float
    passed: bool


def pack(pictures: NDArray[np.uint8], probabilities: NDArray[np.float32], limit: int = MAX_PICTURES) -> str:
    """Return the text that stands in the model's metadata under :data:`~cnn_infer.model.GOLDEN_KEY`.

    Pictures are taken in their order. One that would exceed :data:`MAX_BYTES` is left out.

    Args:
        pictures: uint8, shape (n, height, width, channels).
        probabilities: float32, shape (n, classes): the model's probabilities for ``pictures``.
        limit: Largest number of pictures, 0 or more.
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


def tolerance_of(spec: Spec) -> float:
    """Return the largest accepted difference of a probability from the one at export, 0 to 1.

    An fp16 model is rounded to fp16 after each node by a GPU, and not by a CPU. An int8 model has the tolerance of fp32
    if its integers are the same on every processor, without exception. Behind a node that processors round differently,
    they may not be.
    """
    if spec.precision != "int8":
        return TOLERANCE["fp16" if spec.precision == "fp16" else "fp32"]
    exact = has_proven_integers(spec) and not _integers(spec).get("floats")
    return TOLERANCE["fp32" if exact else "int8"]


def has_proven_integers(spec: Spec) -> bool:
    """Whether the certificate of an int8 model proves that no sum of its integers overflows on any processor."""
    return _integers(spec).get("proven") is True


def proves_integers(classifier: Classifier) -> bool:
    """Whether that proof holds for the device of a classifier: it is about the kernels of ONNX Runtime for the CPU."""
    return has_proven_integers(classifier.spec) and classifier.model.device == "cpu"


def _integers(spec: Spec) -> Mapping[str, Any]:
    """What the certificate says about the integers of an int8 model; empty for older models and for fp32."""
    return under(spec.details, "parity", "fp32_against_int8", "integers")


def verify(classifier: Classifier) -> Sequence[Replay]:
    """Classify the model's golden pictures on this machine and compare with the probabilities at export.

    Returns:
        A result for each golden picture. The model is verified if all have ``passed``.

    Raises:
        ModelError: the model has no golden pictures, or they are damaged, or ONNX Runtime failed.
    """
    tolerance = tolerance_of(classifier.spec)
    entries = _entries(classifier)
    if not entries:
        raise ModelError("the model carries no golden pictures: they were too large, or left out with --golden 0")
    try:
        expected = np.array([row for _, row in entries], np.float32)
        if expected.shape != (len(entries), len(classifier.spec.classes)):
            raise ValueError(f"probabilities of shape {expected.shape}")
        frames = [_pixels(png, classifier.spec) for png, _ in entries]
    except (ValueError, TypeError, KeyError, OverflowError, OSError, SyntaxError, EdgeCNNError) as error:
        raise _damaged(error) from error
    found = [classifier.probabilities(frame[None])[0] for frame in frames]
    return [_compare(classifier, *pair, tolerance) for pair in zip(expected, found, strict=True)]


def pictures_of(classifier: Classifier) -> list[bytes]:
    """Return the golden pictures of a model, each as a PNG file of the model's size.

    Raises:
        ModelError: they are damaged.
    """
    return [png for png, _ in _entries(classifier)]


def _entries(classifier: Classifier) -> list[tuple[bytes, Any]]:
    """Each golden picture as a PNG file, and what stands for its probabilities."""
    try:
        entries = json.loads(classifier.model.metadata.get(GOLDEN_KEY, "[]"))
        return [(base64.b64decode(entry["png"], validate=True), entry["probabilities"]) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(error) from error


def _pixels(png: bytes, spec: Spec) -> NDArray[np.uint8]:
    """Decode a golden picture, without the other steps from a picture to pixels: it is a test of the graph alone."""
    pixels = np.asarray(load(open_file(png)))
    if pixels.dtype != np.uint8:
        raise ValueError(f"samples of type {pixels.dtype}")
    return pixels.reshape(spec.shape)


def _damaged(error: Exception) -> ModelError:
    return ModelError(f"the model's golden pictures are damaged: {error}")


def _compare(
    classifier: Classifier, expected: NDArray[np.float32], found: NDArray[np.float32], tolerance: float
) -> Replay:
    names = classifier.spec.classes
    difference = float(np.abs(found - expected).max())
    want, have = int(expected.argmax()), int(found.argmax())
    return Replay(names[want], names[have], difference, agree(want, have, difference, tolerance))


def agree(expected: int, found: int, difference: float, tolerance: float) -> bool:
    """Whether this machine gives what the export gave: close probabilities and, with a tolerance of 0.02, the class.

    Args:
        expected: Index of the most probable class at export.
        found: Index of the most probable class on this machine.
        difference: The largest absolute difference of a probability, 0 to 1; NaN never agrees.
        tolerance: The result of :func:`tolerance_of`.
    """
    # in fp32 two classes that differ by less than the tolerance may swap ranks
    return difference <= tolerance and (expected == found or tolerance < 0.01)
