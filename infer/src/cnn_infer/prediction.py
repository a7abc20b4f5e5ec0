"""What a classifier answers: a :class:`Prediction`, by a :class:`DecisionRule`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.strangers import StrangerRule

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


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """How the outputs of a model become predictions.

    Attributes:
        classes: The names of the classes, in the model's order.
        top: Number of classes in :attr:`Prediction.top`; of fewer classes, all.
        threshold: Lowest probability of an answer, 0 to 1.
        strangers: When a picture is a stranger; None if that is not asked for.
    """

    classes: Sequence[str]
    top: int
    threshold: float
    strangers: StrangerRule | None

    def predictions(
        self, probabilities: NDArray[np.float32], strangeness: NDArray[np.float32] | None
    ) -> list[Prediction]:
        """Return the predictions for a batch. Ties go to the lower index.

        Args:
            probabilities: float32, shape (n, classes).
            strangeness: float32, shape (n,); None without :attr:`strangers`.
        """
        orders = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
        best = probabilities[np.arange(len(probabilities))[:, None], orders]
        strange = [None] * len(probabilities) if strangeness is None else strangeness.tolist()
        return [self._prediction(*row) for row in zip(orders.tolist(), best.tolist(), strange, strict=True)]

    def _prediction(self, order: list[int], values: list[float], strangeness: float | None) -> Prediction:
        top = tuple([(self.classes[index], value) for index, value in zip(order, values, strict=True)])
        label, probability = top[0]
        if self.strangers is not None and self.strangers.applies(strangeness):
            return Prediction(STRANGER, None, probability, top, strangeness)
        if probability < self.threshold:
            return Prediction(UNKNOWN, None, probability, top, strangeness)
        return Prediction(label, order[0], probability, top, strangeness)
