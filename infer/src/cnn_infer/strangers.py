"""Strangers: pictures that are nothing like those of training. A model must not be asked to classify them.

In the literature this is out-of-distribution detection.

``cnn-export --strangers`` adds the output ``strangeness`` to a model file, and stores the threshold above which a
picture is a stranger, with the false alarm rate that it was chosen for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnn_infer.details import under
from cnn_infer.errors import InputError
from cnn_infer.guarantee import percent

if TYPE_CHECKING:
    from cnn_infer.spec import Spec

KEY = "strangers"
"""Key of the rule in the details of a specification."""


@dataclass(frozen=True)
class StrangerRule:
    """What a model file says about strangers.

    Attributes:
        threshold: A picture is a stranger if its ``strangeness`` is larger.
        rate: The false alarm rate that the threshold was chosen for, 0 to 1.
        images: Number of test pictures.
        false_alarms: Number of test pictures that are strangers by this rule.
        interval: 95% confidence interval of the share of false alarms, 0 to 1.
    """

    threshold: float
    rate: float
    images: int
    false_alarms: int
    interval: tuple[float, float]

    def applies(self, strangeness: float | None) -> bool:
        """Whether a picture is a stranger. One whose ``strangeness`` is not a number is; one without any is not."""
        return strangeness is not None and not strangeness <= self.threshold

    def observed(self, strangers: int, images: int) -> dict[str, Any]:
        """Return the entry of a report on ``images`` readable pictures, of which so many are strangers."""
        share = strangers / images if images else None
        return {"images": strangers, "share": share, "threshold": self.threshold, "rate": self.rate}

    @property
    def text(self) -> str:
        """The rule in words."""
        low, high = self.interval
        return (
            f"at most {percent(self.rate)} of the pictures like those of training expected; {self.false_alarms:,} of "
            f"{self.images:,} test pictures ({low:.2%} to {high:.2%} with 95% confidence)"
        )


def rule_of(details: Mapping[str, Any]) -> StrangerRule | None:
    """Return the rule in a model's details; None if there is none. One that is damaged counts as missing."""
    values = under(details, KEY)
    try:
        low, high = map(float, values["interval"])
        threshold, rate = float(values["threshold"]), float(values["rate"])
        images, alarms = int(values["test_pictures"]), int(values["false_alarms"])
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    if not all(map(math.isfinite, (threshold, rate, low, high))):
        return None
    return StrangerRule(threshold, rate, images, alarms, (low, high))


def required_rule(spec: Spec, name: str) -> StrangerRule:
    """Return the rule of the model called ``name``.

    Raises:
        InputError: the model has none.
    """
    found = rule_of(spec.details)
    if found is None:
        raise InputError(
            f"the model has no threshold for strangers: export it again with cnn-export --strangers: {name}"
        )
    return found
