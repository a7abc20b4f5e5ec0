"""What the probabilities of a model file are worth: calibration, the histogram of validation, and the guarantee."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cnn_infer import Spec, drift
from cnn_infer.calibration import calibration_of
from cnn_infer.guarantee import KEY, Guarantee

from cnn_export.errors import ExportError, GuaranteeError
from cnn_export.selective import Labelled, guarantee

CALIBRATION = "calibration"
"""Key of the calibration in the certificate, ``details["parity"]`` of the specification."""


@dataclass(frozen=True)
class Confidence:
    """What the probabilities of a model file are worth, in the arithmetic of the processors that it is for.

    Attributes:
        calibration: On the test split, from :func:`cnn_infer.calibration.calibration_of`; None if a probability is not
            a number.
        histogram: Top probabilities on the validation split, for ``cnn-infer`` to compare pictures with; None without
            that split, or if a probability is not a number.
        guarantee: The certified threshold; None if it was not asked for or cannot be had.
        refused: Why it cannot be had; empty if it was not asked for or is there.
    """

    calibration: dict[str, Any] | None
    histogram: dict[str, Any] | None
    guarantee: Guarantee | None = None
    refused: str = ""

    @property
    def certificate(self) -> dict[str, Any]:
        """The part that is stored in the certificate inside the model file."""
        entries = {drift.KEY: self.histogram, CALIBRATION: self.calibration}
        return {key: entry for key, entry in entries.items() if entry is not None}

    def promised(self, spec: Spec) -> Spec:
        """Return a specification with the guarantee, if there is one."""
        promise = self.guarantee
        return spec if promise is None else replace(spec, details={**spec.details, KEY: promise.to_json()})


def confidence_of(test: Labelled, validation: Labelled | None, max_error: float | None) -> Confidence:
    """Measure what the probabilities of a model file are worth.

    Args:
        test: Its probabilities for the test pictures, and their true classes.
        validation: The same for the validation pictures; None if that split is not known.
        max_error: The share of wrong answers to guarantee; None for no guarantee.

    Raises:
        ExportError: a guarantee is asked for and the validation split is not known.
    """
    calibration = calibration_of(*test) if np.isfinite(test[0]).all() else None
    if validation is None:
        if max_error is not None:
            raise ExportError(
                "max_error (--max-error) needs the validation pictures of the run: pass its data set as data (--data)"
            )
        return Confidence(calibration, None)
    top = validation[0].max(axis=1)
    histogram = drift.histogram_of(top).to_json() if np.isfinite(top).all() else None
    if max_error is None:
        return Confidence(calibration, histogram)
    try:
        promise = guarantee(validation, test, max_error=max_error)
    except GuaranteeError as error:
        return Confidence(calibration, histogram, refused=str(error))
    return Confidence(calibration, histogram, promise)
