"""Selective classification with guaranteed risk: a threshold below which a model does not answer.

The threshold on the top probability is chosen on the validation split. Then the test split is looked at once: one exact
binomial bound (Clopper and Pearson, 1934, Biometrika 26:404) says how many answers can be wrong. A threshold that was
fixed before needs no correction for trying several, which is what Geifman and El-Yaniv (2017, arXiv:1705.08500) pay
for choosing and bounding on the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cnn_infer.guarantee import Guarantee, percent
from numpy.typing import NDArray
from scipy.stats import beta, binom

from cnn_export.errors import ExportError, GuaranteeError

CONFIDENCE = 0.95
"""Confidence of the bound on the share of wrong answers."""

LIKELY = 0.9
"""The chosen threshold is the lowest one that the test split confirms with this probability, judged by validation."""

OPTIMISM = 1.3
"""The share of wrong answers that is planned for is this factor times that on validation. The epoch and the temperature
were chosen on those pictures, and they are often a part of the training set, so the test split is harder."""

CANDIDATES = 200
"""Largest number of thresholds to choose from. Each answers about the same number of pictures more than the next."""

MOST_PICTURES = 10_000_000
"""Larger test splits are not searched for."""

LEAST_COVERAGE = 0.1
"""Thresholds that answer a smaller share of the pictures do not count when a larger test split is searched for: what
they do is known from few pictures."""

_QUANTILES = (np.arange(50) + 0.5) / 50

Labelled = tuple[NDArray[np.floating[Any]], NDArray[np.int64]]
"""Probabilities, float (n, classes), and the true classes, int64 (n,)."""


def guarantee(validation: Labelled, test: Labelled, *, max_error: float) -> Guarantee:
    """Choose a threshold on validation, and confirm it on the test split.

    Args:
        validation: Probabilities of the model for the validation pictures, and their true classes.
        test: The same for the test pictures. Nothing about the model may have been chosen on them.
        max_error: Largest accepted share of wrong answers among the answered pictures, more than 0 and less than 1.

    Raises:
        ExportError: ``max_error`` is out of range, or there are no pictures.
        GuaranteeError: the bound on the test split is larger than ``max_error``.
    """
    if not 0 < max_error < 1:
        raise ExportError(f"max_error must be more than 0 and less than 1, not {max_error!r}")
    if not len(validation[1]) or not len(test[1]):
        raise ExportError("a guarantee needs validation pictures and test pictures")
    if not all(np.isfinite(probabilities).all() for probabilities, _ in (validation, test)):
        raise GuaranteeError("no threshold is certified: a probability is not a number", None)
    threshold = choose_threshold(validation, len(test[1]), max_error)
    top, wrong = _top_and_wrong(test)
    answered = top >= threshold
    found = _bounded(threshold, max_error, len(top), int(answered.sum()), int(wrong[answered].sum()))
    if found.error_bound <= max_error:
        return found
    pooled = tuple(np.concatenate(parts) for parts in zip(validation, test, strict=True))
    needed = _pictures_needed((pooled[0], pooled[1]), found.images, max_error)
    more = (
        "more test pictures would not help: it is wrong too often even on the tenth that it is surest of"
        if needed is None
        else f"at least about {needed:,} test pictures would be needed, and there are {found.images:,}"
    )
    raise GuaranteeError(
        f"no threshold is certified for {percent(max_error)}: {found.wrong:,} of {found.answered:,} answered test "
        f"pictures are wrong, so only at most {found.error_bound:.2%} is proven; {more}",
        needed,
    )


def choose_threshold(validation: Labelled, test_images: int, max_error: float) -> float:
    """Return the lowest threshold that a test split confirms with the probability :data:`LIKELY`.

    If there is none, return the one that is confirmed with the highest probability.

    Args:
        validation: Probabilities and true classes of the validation pictures.
        test_images: Number of test pictures.
        max_error: Largest accepted share of wrong answers, more than 0 and less than 1.

    Returns:
        The threshold on the top probability, 0 to 1; 0 answers every picture.
    """
    found = _Candidates.of(validation)
    # the share of wrong answers among all such pictures, given these and a uniform prior
    errors = beta.ppf(_QUANTILES[:, None], found.wrong + 1, found.answered - found.wrong + 1)
    likely = found.confirmed(np.minimum(OPTIMISM * errors, 1), test_images, max_error)
    enough = np.flatnonzero(likely >= LIKELY)
    return float(found.thresholds[enough[0] if len(enough) else int(likely.argmax())])


@dataclass(frozen=True)
class _Candidates:
    """Thresholds, the lowest first, and what they do on some pictures.

    Attributes:
        thresholds: float64 (candidates,), increasing.
        coverage: float64 (candidates,), share of the pictures that are answered.
        answered: int64 (candidates,), number of pictures that are answered.
        wrong: int64 (candidates,), number of those that are answered wrongly.
    """

    thresholds: NDArray[np.float64]
    coverage: NDArray[np.float64]
    answered: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @classmethod
    def of(cls, labelled: Labelled) -> _Candidates:
        top, wrong = _top_and_wrong(labelled)
        order = np.argsort(top)
        ascending, count = top[order], len(top)
        ranks = np.unique(np.linspace(0, count - 1, min(count, CANDIDATES)).astype(int))
        # six digits are enough, and rounded down they answer the picture that they are from
        thresholds = np.unique([0.0, *np.floor(ascending[ranks] * 1e6) / 1e6])
        answered = count - np.searchsorted(ascending, thresholds, side="left")
        mistakes = np.concatenate([[0], np.cumsum(wrong[order][::-1])])[answered]
        return cls(thresholds, answered / count, answered, mistakes)

    def confirmed(self, errors: NDArray[np.float64], test_images: int, max_error: float) -> NDArray[np.float64]:
        """Return the probability that a test split confirms each threshold, float64 (candidates,).

        Args:
            errors: Possible shares of wrong answers, equally likely, float64 (possibilities, candidates).
            test_images: Number of test pictures.
            max_error: Largest accepted share of wrong answers.
        """
        answered = np.floor(test_images * self.coverage)
        allowed = binom.ppf(1 - CONFIDENCE, answered, max_error) - 1  # so many wrong answers have a bound below it
        probability: NDArray[np.float64] = binom.cdf(allowed, answered, errors).mean(axis=0)
        return probability


def _bounded(threshold: float, max_error: float, images: int, answered: int, wrong: int) -> Guarantee:
    """The threshold with the one-sided bound on its share of wrong answers."""
    bound = float(beta.ppf(CONFIDENCE, wrong + 1, answered - wrong)) if wrong < answered else 1.0
    return Guarantee(threshold, max_error, CONFIDENCE, bound, answered / images, images, answered, wrong)


def _pictures_needed(labelled: Labelled, images: int, max_error: float) -> int | None:
    """About how many test pictures would confirm a threshold, if the shares of wrong answers are as on these pictures.

    None if it is more than :data:`MOST_PICTURES`.

    Args:
        labelled: All pictures to judge by. Nothing is promised by the result, so test pictures may be among them.
        images: A number of test pictures that is not enough.
        max_error: Largest accepted share of wrong answers.
    """
    found = _Candidates.of(labelled)
    errors = np.where(found.coverage >= LEAST_COVERAGE, found.wrong / found.answered, 1.0)[None]
    needed = float(images)
    while needed <= MOST_PICTURES:
        needed = max(needed + 1, 1.1 * needed)
        if found.confirmed(errors, int(needed), max_error).max() >= LIKELY:
            step = 10 ** max(0, len(str(int(needed))) - 2)  # two digits
            return int(-(-needed // step) * step)
    return None


def _top_and_wrong(labelled: Labelled) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    probabilities, labels = labelled
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) != labels
