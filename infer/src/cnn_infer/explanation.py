"""Why a model answers as it does: the part of each cell of its last feature map in a logit.

``cnn-export --evidence`` adds the output to a model file. For each class, the evidence of all cells plus the bias is
the logit, so an explanation is the computation itself and not an approximation of it. In the literature such a map is a
class activation map (Zhou et al., 2016, arXiv:1512.04150).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_infer.errors import ModelError
from cnn_infer.model import INPUT, LOGITS, Model
from cnn_infer.optional_outputs import EVIDENCE
from cnn_infer.prediction import Prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnn_infer.spec import Spec


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The pixels of the model's input that a cell of its last feature map depends on.

    All values are (down, right), in pixels of the model's input.

    Attributes:
        start: Where the field of the first cell starts; negative where it starts in the padding.
        size: Height and width of the field.
        step: Distance between the fields of neighbouring cells.
        whole_picture: Whether the network has a part that sees the whole picture, such as a global mean that scales
            channels. Then a cell depends on all pixels, and the field says where it looks most directly.
    """

    start: tuple[float, float]
    size: tuple[float, float]
    step: tuple[float, float]
    whole_picture: bool

    def centre(self, row: int, column: int) -> tuple[float, float]:
        """Return the centre of a cell's field, (down, right); 0 is the border of the first pixel."""
        down, right = (
            start + size / 2 + place * step
            for start, size, step, place in zip(self.start, self.size, self.step, (row, column), strict=True)
        )
        return down, right


@dataclass(frozen=True, slots=True, eq=False)
class ClassEvidence:
    """The evidence for one class.

    Attributes:
        name: The class.
        index: Its index in ``spec.classes``.
        logit: Its logit, divided by the temperature: the sum of ``evidence``, plus ``bias``.
        bias: The part of the logit that does not depend on the picture.
        evidence: float32 (rows, columns), the part of each cell; negative where it speaks against the class.
    """

    name: str
    index: int
    logit: float
    bias: float
    evidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a model answered as it did, for one picture.

    Attributes:
        prediction: The answer.
        winner: The evidence for the most probable class, also if the label is ``unknown``.
        runner_up: The evidence for the second most probable class.
        receptive_field: What a cell sees.
    """

    prediction: Prediction
    winner: ClassEvidence
    runner_up: ClassEvidence
    receptive_field: ReceptiveField


def sight(spec: Spec, name: str) -> str:
    """Say what the cells of a model's last feature map see.

    The arguments and the error are those of :func:`described`.
    """
    field, _ = described(spec, name)
    cells = spec.details[EVIDENCE]["cells"]
    text = f"{cells_text(cells, field.size)} of the {spec.width} x {spec.height} input"
    if field.whole_picture:
        text += " and, through a part of the network, the whole picture"
    return "; ".join([text, *place_notes(cells, field.size, (spec.height, spec.width))])


def cells_text(cells: Sequence[int], size: Sequence[float]) -> str:
    """Say how many cells there are and how many pixels each sees; both arguments are (height, width)."""
    (rows, columns), (height, width) = cells, size
    count = f"{columns} x {rows} cells" if rows * columns > 1 else "1 cell"
    return f"{count} (width x height), each sees {width:g} x {height:g} pixels"


def place_notes(cells: Sequence[int], size: Sequence[float], sides: Sequence[int]) -> list[str]:
    """Say what a drawing of the evidence cannot show, if anything.

    Args:
        cells: Rows and columns of the last feature map.
        size: Height and width of what a cell sees, in pixels of the input.
        sides: Height and width of the input in pixels.
    """
    if tuple(cells) == (1, 1):
        return ["1 cell: a drawing of its evidence cannot show a place"]
    if all(seen >= side for seen, side in zip(size, sides, strict=True)):
        return ["a cell sees as much as the whole input: a drawing of its evidence says little about the place"]
    return []


def explain(model: Model, pixels: NDArray[np.uint8], prediction: Prediction) -> Explanation:
    """Return the evidence for the two most probable classes.

    Args:
        model: A model that was opened with the output ``evidence``.
        pixels: The picture as the model's input, uint8 (height, width, channels).
        prediction: The model's answer for it.

    Raises:
        ModelError: the specification does not describe the evidence, or ONNX Runtime failed.
    """
    field, bias = described(model.spec, model.name)
    try:
        logits, evidence = (found[0] for found in model.session.run([LOGITS, EVIDENCE], {INPUT: pixels[None]}))
    except Exception as error:
        raise ModelError(f"the model failed on 1 picture: {' '.join(str(error).split())}") from error
    first, second = np.argsort(-logits, kind="stable")[:2].tolist()
    winner, runner_up = (
        ClassEvidence(model.spec.classes[index], index, float(logits[index]), bias[index], evidence[index])
        for index in (first, second)
    )
    return Explanation(prediction, winner, runner_up, field)


def described(spec: Spec, name: str) -> tuple[ReceptiveField, list[float]]:
    """Return what a specification says about the evidence: the receptive field, and the bias of each class.

    Args:
        spec: The specification of a model with the output ``evidence``.
        name: The model's name, for the message.

    Raises:
        ModelError: it says nothing, or nothing valid.
    """
    entry: Any = spec.details.get(EVIDENCE)
    try:
        found = entry["receptive_field"]
        start, size, step = (tuple(map(float, found[key])) for key in ("start", "size", "step"))
        bias = [float(value) for value in entry["bias"]]
        if not (len(start) == len(size) == len(step) == 2) or len(bias) != len(spec.classes) or min(*size, *step) <= 0:
            raise ValueError("wrong lengths")
        rows, columns = entry["cells"]
        if not (type(rows) is type(columns) is int and rows > 0 and columns > 0):
            raise ValueError("wrong cells")
        whole = bool(found["whole_picture"])
        return ReceptiveField((start[0], start[1]), (size[0], size[1]), (step[0], step[1]), whole), bias
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the model's cnn.spec does not describe its evidence: {name}") from error
