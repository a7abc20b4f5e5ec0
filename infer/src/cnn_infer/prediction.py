"""What a classifier answers: a :class:`Prediction`, or for one of many pictures an :class:`Answer`."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnn_infer.errors import PictureError
from cnn_infer.paths.naming import located

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "unknown"
"""The label of a prediction whose probability is below the threshold."""

STRANGER = "stranger"
"""The label of a prediction for a picture that is nothing like those of training."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer for one picture.

    Attributes:
        label: The name of the most probable class; ``stranger`` if the picture is nothing like those of training, and
            the classifier was asked for that; else ``unknown`` if its probability is below the threshold.
        index: The index of that class in ``spec.classes``; None if the label is ``stranger`` or ``unknown``.
        probability: The probability of the most probable class, 0 to 1, whatever the label.
        top: The most probable classes as (name, probability), the most probable first.
        strangeness: How far the picture is from the training pictures, about 1 for one of them; None if the classifier
            was not asked for it.
    """

    label: str
    index: int | None
    probability: float
    top: tuple[tuple[str, float], ...]
    strangeness: float | None = None


def labelled(
    top: tuple[tuple[str, float], ...], index: int, threshold: float, strangeness: float | None, *, is_stranger: bool
) -> Prediction:
    """Return the prediction for the most probable classes.

    Args:
        top: The most probable classes as (name, probability), the most probable first.
        index: The index of the first.
        threshold: Lowest probability of an answer, 0 to 1.
        strangeness: How far the picture is from the training pictures, or None.
        is_stranger: Whether it is too far.
    """
    label, probability = top[0]
    if is_stranger:
        return Prediction(STRANGER, None, probability, top, strangeness)
    if probability < threshold:
        return Prediction(UNKNOWN, None, probability, top, strangeness)
    return Prediction(label, index, probability, top, strangeness)


class Answer(NamedTuple):
    """The result for one of many pictures: a prediction or an error, and how long it took.

    Attributes:
        prediction: The prediction; None if the picture could not be read.
        error: Why the picture could not be read; None if there is a prediction. Its text does not contain the path.
        model_ms: The picture's share of the run of its batch, in milliseconds; 0 without a prediction.
        total_ms: ``model_ms`` plus the time for reading, decoding and resizing, in milliseconds.
        path: The picture's path, if the picture was passed as a path; else None.
        probabilities: The probability of each class, float32 (classes,), in the model's order; None without a
            prediction. A view of the output of its batch: whoever keeps it keeps that.
    """

    prediction: Prediction | None
    error: PictureError | None
    model_ms: float
    total_ms: float
    path: str | os.PathLike[str] | None
    probabilities: NDArray[np.float32] | None = None


def predictions(answers: Generator[Answer, None, None], errors: str) -> Iterator[Any]:
    """Yield the predictions; ``errors`` tells whether a :class:`PictureError` is raised or yielded."""
    with closing(answers):
        for answer in answers:
            if answer.error is None:
                yield answer.prediction
            elif errors == "yield":
                yield located(answer.error, answer.path)
            else:
                raise located(answer.error, answer.path) from answer.error.__cause__
