"""The certified threshold of a model: below it the model does not answer, so that few of its answers are wrong.

``cnn-export --max-error`` chooses the threshold and proves the bound (selective classification with guaranteed risk:
Geifman and El-Yaniv, 2017, arXiv:1705.08500). The model file carries both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from cnn_infer.details import under
from cnn_infer.errors import InputError
from cnn_infer.metrics import exact_interval

if TYPE_CHECKING:
    from cnn_infer.spec import Spec

KEY = "guarantee"
"""Key of the guarantee in the details of a specification."""

CERTIFIED: Literal["certified"] = "certified"
"""The threshold of the model's guarantee, in place of a number."""

Threshold = float | Literal["certified"]

Verdict = Literal["held", "broken", "too few pictures to tell"]

_COUNTS = ("wrong", "answered", "images")


@dataclass(frozen=True)
class Guarantee:
    """A threshold on the top probability, and what was proven of the answers at or above it.

    The threshold was fixed before the test split was looked at, so ``error_bound`` is one exact bound (Clopper and
    Pearson, 1934, Biometrika 26:404). It applies to pictures that are drawn as those of the test split were.

    Attributes:
        threshold: Lowest top probability of an answer, 0 to 1.
        max_error: Promised largest share of wrong answers among the answered pictures, 0 to 1.
        confidence: Confidence of the promise, 0 to 1.
        error_bound: Upper end of the one-sided confidence interval of that share, at most ``max_error``.
        coverage: Share of the test pictures that are answered, 0 to 1.
        images: Number of test pictures.
        answered: Number of test pictures that are answered.
        wrong: Number of answers that are wrong.
    """

    threshold: float
    max_error: float
    confidence: float
    error_bound: float
    coverage: float
    images: int
    answered: int
    wrong: int

    @property
    def text(self) -> str:
        """The promise as one sentence."""
        return (
            f"at most {percent(self.max_error)} wrong among answered pictures with {self.confidence:.0%} confidence; "
            f"answers {self.coverage:.1%} of pictures like the test split"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the specification and of reports."""
        return {**asdict(self), "text": self.text}


def guarantee_of(details: Mapping[str, Any]) -> Guarantee | None:
    """Return the guarantee in a model's details; None if there is none. One that is damaged counts as missing."""
    entry = under(details, KEY)
    values: dict[str, Any] = {field.name: entry.get(field.name) for field in fields(Guarantee)}
    counts = [values[name] for name in _COUNTS]
    shares = [value for name, value in values.items() if name not in _COUNTS]
    if not all(type(count) is int and count >= 0 for count in counts) or sorted(counts) != counts:
        return None
    if not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares):
        return None
    found = Guarantee(**values)
    return found if found.error_bound <= found.max_error else None


def check_threshold(threshold: Threshold) -> None:
    """Raise :class:`InputError` for a threshold that is neither a probability nor ``certified``."""
    if threshold != CERTIFIED and (isinstance(threshold, str) or not 0 <= threshold <= 1):
        raise InputError(f"the threshold must be a probability from 0 to 1, or {CERTIFIED}, not {threshold}")


def resolve_threshold(threshold: Threshold, spec: Spec, name: str) -> tuple[float, Guarantee | None]:
    """Return the threshold as a number, and the guarantee that it is from.

    Args:
        threshold: A probability or ``certified``; :func:`check_threshold` accepts it.
        spec: The specification of the model.
        name: The name of the model file, for messages.

    Raises:
        InputError: the model has no certified threshold.
    """
    if threshold == CERTIFIED:
        found = guarantee_of(spec.details)
        if found is None:
            raise InputError(
                f"{name} has no certified threshold: export it with cnn-export --max-error 1%, or pass a number as "
                "the threshold"
            )
        return found.threshold, found
    return threshold, None


def observed(guarantee: Guarantee, images: int, answered: int, labelled: int, wrong: int) -> dict[str, Any]:
    """Compare a run over pictures with the promise.

    Args:
        guarantee: The promise.
        images: Number of readable pictures.
        answered: Number of those that were answered.
        labelled: Number of answered pictures whose true class is known.
        wrong: Number of those that were answered wrongly.

    Returns:
        Plain JSON: the promise, ``coverage`` of this run, and, if there are labels, ``error`` (share of wrong answers)
        with its exact 95% ``interval`` and the ``verdict``; these are None without labels.
    """
    known = labelled > 0
    interval = exact_interval(wrong, labelled) if known else None
    return {
        "promise": guarantee.to_json(),
        "coverage": answered / images if images else None,
        "labelled": labelled,
        "wrong": wrong if known else None,
        "error": wrong / labelled if known else None,
        "interval": None if interval is None else list(interval),
        "verdict": None if interval is None else _verdict(guarantee.max_error, interval),
    }


def _verdict(most: float, interval: tuple[float, float]) -> Verdict:
    """Whether the promise held: it is ``held`` or ``broken`` where the interval lies on one side of it."""
    low, high = interval
    if high <= most:
        return "held"
    return "broken" if low > most else "too few pictures to tell"


def percent(share: float) -> str:
    """Return a share, 0 to 1, as a percentage with at least one decimal digit, such as ``1.0%`` or ``0.25%``."""
    value = round(100 * share, 9)
    return f"{value:.1f}%" if math.isclose(value, round(value, 1), rel_tol=1e-9) else f"{value:g}%"
