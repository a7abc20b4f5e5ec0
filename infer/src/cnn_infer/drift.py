"""Compare how sure a model is of the pictures of a run with how sure it was of the validation pictures.

The export stores a histogram of the top probability on the validation pictures in the model file. A run over pictures
counts into the same bins, and a two-sample Kolmogorov-Smirnov test compares the two. Pictures of another camera or of
other objects, and noise, change the distribution of the top probability; no labels are needed to see it (Hendrycks and
Gimpel, 2017, arXiv:1610.02136; Rabanser et al., 2019, arXiv:1810.11953).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnn_infer.details import under

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "top_probability"
"""Key of the histogram in the certificate, ``details["parity"]`` of the specification."""

BINS = 128
"""Largest number of bins. Each has about the same number of validation pictures, so binning hides a difference of the
two distributions of at most 1/128."""

DIGITS = 5
"""Decimal digits of the bins' edges: finer differences of a probability may come from the processor."""

LEAST_PICTURES = 30
"""With fewer pictures in the run or in validation, no difference is reported."""

LEVEL = 0.001
"""Largest p of the test for which a difference is reported."""

LEAST_DIFFERENCE = 0.05
"""Smallest statistic of the test that is reported. A temperature that was fitted on the validation pictures, and the
choice of the best epoch on them, make the model slightly surer of them than of other pictures of the same kind."""


class TopProbabilities:
    """A histogram of top probabilities.

    Args:
        edges: Upper limits of the bins, 0 to 1, increasing; a probability that equals a limit is below it. The last
            bin also counts larger values.
        counts: Pictures in each bin; None for an empty histogram.

    Raises:
        ValueError: ``counts`` has another length than ``edges``, or a negative count.
    """

    def __init__(self, edges: Sequence[float], counts: Sequence[int] | None = None) -> None:
        self.edges = list(edges)
        self.counts = [0] * len(self.edges) if counts is None else list(counts)
        if len(self.counts) != len(self.edges) or min(self.counts) < 0:
            raise ValueError(f"{len(self.edges)} bins have the counts {self.counts}")
        self._last = len(self.edges) - 1

    @property
    def images(self) -> int:
        """Number of pictures."""
        return sum(self.counts)

    def add(self, probability: float) -> None:
        """Count one picture with this top probability, 0 to 1."""
        self.counts[min(bisect_left(self.edges, probability), self._last)] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the document that :func:`validation_of` reads."""
        return {"images": self.images, "edges": self.edges, "counts": self.counts}


@dataclass(frozen=True)
class Drift:
    """The comparison of the pictures of a run with the validation pictures.

    Attributes:
        statistic: The Kolmogorov-Smirnov statistic: the largest difference of the two distribution functions, 0 to 1.
        p: The probability of such a difference between two samples of the same pictures, 0 to 1.
        images: Number of pictures of the run that could be read.
        validation_images: Number of validation pictures.
        direction: Whether the model is ``less sure`` or ``more sure`` of the pictures of the run, where the
            distribution functions differ most; ``equal`` if they do not differ.
        differs: Whether this is more than chance: ``p`` is at most :data:`LEVEL`, ``statistic`` at least
            :data:`LEAST_DIFFERENCE`, and there are :data:`LEAST_PICTURES` of both.
    """

    statistic: float
    p: float
    images: int
    validation_images: int
    direction: Literal["less sure", "more sure", "equal"]
    differs: bool


def histogram_of(top: NDArray[np.floating[Any]]) -> TopProbabilities:
    """Return the histogram of the validation pictures, for the certificate.

    Args:
        top: The top probability of each picture, 0 to 1, shape (n,) with n of at least 1.
    """
    values = np.asarray(top, np.float64)
    quantiles = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges = np.unique([*quantiles.round(DIGITS).clip(0, 1), 1.0]).tolist()
    found = TopProbabilities(edges)
    for value in values.tolist():
        found.add(value)
    return found


def validation_of(details: Mapping[str, Any]) -> TopProbabilities | None:
    """Return the histogram of the validation pictures in a model's details.

    None if there is none, as in files of older exports. One that is damaged counts as missing, as all details do.
    """
    found = under(details, "parity", KEY)
    edges, counts = found.get("edges"), found.get("counts")
    if not isinstance(edges, list) or not isinstance(counts, list) or not 0 < len(edges) == len(counts) <= BINS:
        return None
    if not all(type(edge) in (int, float) and 0 <= edge <= 1 for edge in edges) or sorted(set(edges)) != edges:
        return None
    if not all(type(count) is int and count >= 0 for count in counts) or not sum(counts):
        return None
    return TopProbabilities(edges, counts)


def compare(validation: TopProbabilities, run: TopProbabilities) -> Drift | None:
    """Compare a run with validation; None if the run has no pictures.

    Both have the same bins. The statistic of binned values is at most that of the values themselves, so the test never
    reports more than it would without bins, whatever ties there are.
    """
    pictures, validated = run.images, validation.images
    if not pictures:
        return None
    differences = np.cumsum(run.counts) / pictures - np.cumsum(validation.counts) / validated
    place = int(np.abs(differences).argmax())
    statistic = float(abs(differences[place]))
    p = p_value(statistic, pictures, validated)
    enough = min(pictures, validated) >= LEAST_PICTURES
    return Drift(
        statistic=statistic,
        p=p,
        images=pictures,
        validation_images=validated,
        direction="equal" if not statistic else "less sure" if differences[place] > 0 else "more sure",
        differs=enough and p <= LEVEL and statistic >= LEAST_DIFFERENCE,
    )


def p_value(statistic: float, first: int, second: int) -> float:
    """Return the p of the two-sided two-sample Kolmogorov-Smirnov test, 0 to 1.

    It is Smirnov's limit for large samples (1948, Annals of Mathematical Statistics 19:279). For small samples it is
    larger than the exact value.

    Args:
        statistic: The largest difference of the two empirical distribution functions, 0 to 1.
        first: Size of the first sample, at least 1.
        second: Size of the second sample, at least 1.
    """
    scaled = first * second / (first + second) * statistic**2
    if scaled < 0.04:  # the series converges slowly, and its sum is 1 to more than twelve digits
        return 1.0
    terms = ((-1.0) ** (index - 1) * math.exp(-2 * index**2 * scaled) for index in range(1, 20))
    return float(min(1.0, max(0.0, 2 * sum(terms))))
