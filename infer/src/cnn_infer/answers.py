"""Answers for many pictures: for each a prediction or an error, and how long it took."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_infer.errors import PictureError
from cnn_infer.paths.naming import located, path_of
from cnn_infer.prediction import Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.pixels.convert import Picture
    from cnn_infer.prediction import DecisionRule

    Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
    """Takes a batch, uint8 (n, height, width, channels); returns probabilities, float32 (n, classes), and strangeness,
    float32 (n,), or None."""


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


def answer_batch(
    pictures: Sequence[Picture], pixels: Callable[[Picture], NDArray[np.uint8]], run: Run, decision: DecisionRule
) -> list[Answer]:
    """Classify pictures in one run of the model.

    Args:
        pictures: At least one.
        pixels: Returns the model's input for a picture, uint8 (height, width, channels), or raises PictureError.
        run: Runs the model.
        decision: Turns its outputs into predictions.

    Returns:
        An answer for each picture, in order.
    """
    decoded: list[NDArray[np.uint8] | PictureError] = []
    spent: list[float] = []
    for picture in pictures:
        start = time.perf_counter()
        try:
            decoded.append(pixels(picture))
        except PictureError as error:
            decoded.append(error)
        spent.append(1e3 * (time.perf_counter() - start))
    found: Iterator[tuple[Prediction, NDArray[np.float32]]] = iter(())
    share = 0.0
    if good := [item for item in decoded if not isinstance(item, PictureError)]:
        start = time.perf_counter()
        probabilities, strangeness = run(np.stack(good))
        share = 1e3 * (time.perf_counter() - start) / len(good)
        found = zip(decision.predictions(probabilities, strangeness), probabilities, strict=True)
    answers: list[Answer] = []
    for picture, item, decoding in zip(pictures, decoded, spent, strict=True):
        if isinstance(item, PictureError):
            answers.append(Answer(None, item, 0.0, decoding, path_of(picture)))
        else:
            prediction, row = next(found)
            answers.append(Answer(prediction, None, share, decoding + share, path_of(picture), row))
    return answers
