"""What a page shows beyond the counts of a run, in constant memory: single pictures, and coverage against error.

For a folder of any size it keeps the worst mistakes, the least sure answers, and the first files that could not be
read, each up to a limit. The top probabilities are counted into bins, apart for right and wrong answers.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from cnn_infer.errors import InputError

if TYPE_CHECKING:
    from cnn_infer.prediction import Prediction

MOST_MISTAKES = 50
MOST_UNSURE = 24
MOST_UNREADABLE = 50

_STEPS = 100
"""Bins per unit of the logit of the top probability: neighbouring edges differ by at most 0.25 percentage points."""

_LIMIT = 16
"""Largest absolute logit that has a bin of its own: above it a float32 probability is 1."""

_BINS = 2 * _LIMIT * _STEPS + 1


_Entry = tuple[float, int, str, str | None, str]
"""Sort key, place in the run, path, true class and most probable class."""


class Shown(NamedTuple):
    """A picture that the page shows.

    Attributes:
        probability: Top probability, 0 to 1.
        number: Its place in the run, from 0.
        path: The file.
        truth: The name of its true class; None if it is not known.
        label: The name of the most probable class.
    """

    probability: float
    number: int
    path: str
    truth: str | None
    label: str


class Selection(NamedTuple):
    """The answers whose top probability reaches a threshold.

    Attributes:
        threshold: The lowest top probability among them, to the width of a bin, 0 to 1.
        answered: Number of labelled pictures with such an answer.
        wrong: Number of these answers that are wrong.
    """

    threshold: float
    answered: int
    wrong: int


class Highlights:
    """The notable pictures of a run, and the top probabilities of its right and wrong answers."""

    def __init__(self) -> None:
        self._worst: list[_Entry] = []
        self._unsure: list[_Entry] = []
        self._unreadable: list[tuple[str, str]] = []
        self._right = [0] * _BINS
        self._wrong = [0] * _BINS
        self._seen = 0

    def add(self, path: str, prediction: Prediction, truth: str | None) -> None:
        """Count the answer for one picture.

        Args:
            path: The file.
            prediction: The answer. Below the threshold it is no mistake, but its top probability counts. One that is
                not a number counts as 0.
            truth: The name of the true class; None if it is not known.
        """
        label, found = prediction.top[0]
        probability = 0.0 if math.isnan(found) else found
        number = self._seen
        self._seen += 1
        # a heap gives up its smallest entry: the least sure mistake, or the surest of the unsure, later ones first
        _keep(self._unsure, (-probability, -number, path, truth, label), MOST_UNSURE)
        if truth is None:
            return
        (self._right if label == truth else self._wrong)[_bin(probability)] += 1
        if label != truth and prediction.index is not None:
            _keep(self._worst, (probability, -number, path, truth, label), MOST_MISTAKES)

    def add_unreadable(self, path: str, reason: str) -> None:
        """Count a file that could not be read."""
        if len(self._unreadable) < MOST_UNREADABLE:
            self._unreadable.append((path, reason))

    def merge(self, counted: Any) -> None:
        """Add a result of :meth:`counted` of the pictures that follow in the run.

        Raises:
            InputError: it is no such result.
        """
        other = Highlights.restored(counted)
        for mine, theirs, most in (
            (self._worst, other._worst, MOST_MISTAKES),
            (self._unsure, other._unsure, MOST_UNSURE),
        ):
            for key, number, *names in theirs:
                _keep(mine, _entry(key, number - self._seen, *names), most)
        for path, reason in other._unreadable:
            self.add_unreadable(path, reason)
        self._right = [first + second for first, second in zip(self._right, other._right, strict=True)]
        self._wrong = [first + second for first, second in zip(self._wrong, other._wrong, strict=True)]
        self._seen += other._seen

    @property
    def mistakes(self) -> list[Shown]:
        """The wrong answers with the highest probabilities, the highest first, up to :data:`MOST_MISTAKES`."""
        return [
            Shown(probability, -number, path, truth, label)
            for probability, number, path, truth, label in sorted(self._worst, reverse=True)
        ]

    @property
    def unsure(self) -> list[Shown]:
        """The answers with the lowest top probabilities, the lowest first, up to :data:`MOST_UNSURE`."""
        return [
            Shown(-negative, -number, path, truth, label)
            for negative, number, path, truth, label in sorted(self._unsure, reverse=True)
        ]

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """The first files that could not be read, as path and reason, up to :data:`MOST_UNREADABLE`."""
        return list(self._unreadable)

    def selections(self) -> Iterator[Selection]:
        """Yield the selections of ever lower thresholds: from the surest answers to all of them."""
        answered = wrong = 0
        for place in range(_BINS - 1, -1, -1):
            here = self._right[place] + self._wrong[place]
            if here:
                answered, wrong = answered + here, wrong + self._wrong[place]
                yield Selection(1 / (1 + math.exp(_LIMIT - place / _STEPS)), answered, wrong)

    def counted(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {
            "seen": self._seen,
            "worst": self._worst,
            "unsure": self._unsure,
            "unreadable": self._unreadable,
            "bins": [
                [place, right, wrong]
                for place, (right, wrong) in enumerate(zip(self._right, self._wrong, strict=True))
                if right or wrong
            ],
        }

    @classmethod
    def restored(cls, counted: Any) -> Highlights:
        """Continue from a result of :meth:`counted`.

        Raises:
            InputError: it is no such result, or None: the run was started without them.
        """
        if counted is None:
            raise InputError(
                "the interrupted run was started without --html: leave it out, or start again without --resume"
            )
        found = cls()
        try:
            found._seen = int(counted["seen"])
            found._worst = [_entry(*values) for values in counted["worst"]]
            found._unsure = [_entry(*values) for values in counted["unsure"]]
            found._unreadable = [(str(path), str(reason)) for path, reason in counted["unreadable"]]
            for place, right, wrong in counted["bins"]:
                found._right[place], found._wrong[place] = int(right), int(wrong)
        except (ArithmeticError, TypeError, ValueError, LookupError) as error:
            raise InputError(f"the counts to resume from are damaged ({error}): start without --resume") from error
        heapq.heapify(found._worst)
        heapq.heapify(found._unsure)
        return found


def _bin(probability: float) -> int:
    if probability <= 0 or probability >= 1:
        return 0 if probability <= 0 else _BINS - 1
    logit = math.log(probability / (1 - probability))
    return min(_BINS - 1, max(0, math.floor((logit + _LIMIT) * _STEPS)))


def _keep(heap: list[_Entry], entry: _Entry, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _entry(value: Any, number: Any, path: Any, truth: Any, label: Any) -> _Entry:
    return float(value), int(number), str(path), None if truth is None else str(truth), str(label)
