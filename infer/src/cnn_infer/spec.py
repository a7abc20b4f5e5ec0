"""The specification of a model: how a picture becomes its input, and what its outputs mean.

Training writes it, export stores it in the ``.onnx`` file, and inference reads it from there. All three convert
pictures by it, so a network is run on the same pixels that it was trained on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cnn_infer.errors import ModelError

FORMAT = 1
"""Version of the JSON document. Any other version is refused."""

MAX_SIDE = 4096
"""Largest height or width of a model's input, in pixels."""

MAX_CLASSES = 100_000
"""Largest number of classes."""

Colour = Literal["grey", "rgb"]
Resize = Literal["squash", "crop", "pad"]
Filter = Literal["bilinear", "bicubic", "lanczos", "box", "hamming"]
Profiles = Literal["ignored"]


@dataclass(frozen=True)
class Spec:
    """How to turn a picture into the model's input, and what the model's outputs mean.

    The input is uint8, (batch, height, width, channels). The network computes on ``(pixel - zero_point) * scale``.
    Its logits are divided by ``temperature`` before the softmax. :func:`cnn_infer.to_pixels` converts a picture.

    Attributes:
        classes: The class names, in the order of the model's outputs: 2 to 100,000 different, non-empty strings.
        height: Height of the input in pixels, 1 to 4096.
        width: Width of the input in pixels, 1 to 4096.
        colour: ``grey`` (one channel) or ``rgb`` (three channels).
        resize: How a picture of another shape is fitted: ``squash`` changes its aspect ratio, ``crop`` keeps the
            largest centred part, ``pad`` keeps all of it, centred on mid-grey.
        filter: The resampling filter, by Pillow's name. Resizing is always antialiased.
        zero_point: The pixel value that the network sees as 0; a whole number, 0 to 255.
        scale: The factor from pixel values to the network's values; positive.
        temperature: The calibration temperature (Guo et al., 2017, arXiv:1706.04599); positive.
        profiles: What happens to the ICC profile of a picture. ``ignored``: its pixel values are used as they are.
        details: Anything else that is known, as plain JSON: data set, settings, metrics, parity, versions.

    Raises:
        ModelError: a value is of another type or out of range.
    """

    classes: tuple[str, ...]
    height: int
    width: int
    colour: Colour
    resize: Resize
    filter: Filter
    zero_point: int
    scale: float
    temperature: float = 1.0
    profiles: Profiles = "ignored"
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ModelError(f"the model's cnn.spec is not valid: {problem}")

    @property
    def channels(self) -> int:
        """Number of channels: 1 for ``grey``, 3 for ``rgb``."""
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture: (height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16`` or ``int8``."""
        return str(self.details.get("precision") or "fp32")

    def to_json(self) -> str:
        """Return the JSON document that stands in ``spec.json`` and in the model's metadata."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps({"format": FORMAT, **fields}, ensure_ascii=False, allow_nan=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Parse the document that :meth:`to_json` returns. Keys that this version does not know are ignored.

        Raises:
            ModelError: the text is not a JSON object, has another format version, lacks a key, or has a wrong value.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"the model's cnn.spec is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise ModelError("the model's cnn.spec is not a JSON object")
        found = document.pop("format", None)
        if found != FORMAT:
            raise ModelError(
                f"the model's cnn.spec has format {found!r}; this version reads {FORMAT}: upgrade cnn-infer"
            )
        if isinstance(document.get("classes"), list):
            document["classes"] = tuple(document["classes"])
        known = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        try:
            return cls(**known)
        except TypeError as error:
            raise ModelError(f"the model's cnn.spec is incomplete: {error}") from error


def _problem(spec: Spec) -> str | None:
    """Return what is wrong with the first invalid value, or None when all values are valid."""
    names = spec.classes
    if not isinstance(names, tuple) or not 2 <= len(names) <= MAX_CLASSES:
        return f"classes must be a list of 2 to {MAX_CLASSES:,} names"
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
        return "classes must be different, non-empty strings"
    for key, value in (("height", spec.height), ("width", spec.width)):
        if type(value) is not int or not 1 <= value <= MAX_SIDE:
            return f"{key} must be a whole number from 1 to {MAX_SIDE}, not {value!r}"
    if type(spec.zero_point) is not int or not 0 <= spec.zero_point <= 255:
        return f"zero_point must be a whole number from 0 to 255, not {spec.zero_point!r}"
    for key, number in (("scale", spec.scale), ("temperature", spec.temperature)):
        if type(number) not in (int, float) or not 0 < number <= sys.float_info.max:
            return f"{key} must be a positive number, not {number!r}"
    for key, text, allowed in (
        ("colour", spec.colour, get_args(Colour)),
        ("resize", spec.resize, get_args(Resize)),
        ("filter", spec.filter, get_args(Filter)),
        ("profiles", spec.profiles, get_args(Profiles)),
    ):
        if text not in allowed:
            return f"{key} must be one of {', '.join(allowed)}, not {text!r}"
    if not isinstance(spec.details, Mapping):
        return "details must be a JSON object"
    try:
        spec.to_json().encode()
    except (TypeError, ValueError, RecursionError) as error:  # NaN, lone surrogates, too deep nesting
        return f"classes and details must be valid JSON in UTF-8: {error}"
    return None
