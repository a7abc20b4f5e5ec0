"""Where a model file comes from and how exact it is, from its own specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnn_infer.classifier import Classifier
from cnn_infer.details import under
from cnn_infer.errors import InputError


def check_together(first: Classifier, second: Classifier) -> None:
    """Check that two files are different files of one training.

    Raises:
        InputError: they are equal, or differ in classes, input, data set or training.
    """
    names = f"{first.model.name} and {second.model.name}"
    if first.model.data == second.model.data:
        raise InputError(f"{names} are the same file: name each file once")
    for what, known in _facts(first).items():
        if known != _facts(second)[what]:
            raise InputError(f"{names} do not belong together: {what} not the same; name the files of one export")


def _facts(classifier: Classifier) -> dict[str, object]:
    """What all files of one training have in common, by words for an error message."""
    spec, details = classifier.spec, classifier.spec.details
    fingerprints = under(details, "data").get("fingerprints"), under(details, "parity").get("test_fingerprint")
    return {
        "their classes are": spec.classes,
        "their input is": (spec.shape, spec.colour, spec.resize, spec.filter, spec.zero_point, spec.scale),
        "their data set is": fingerprints,
        "their training is": (spec.temperature, details.get("settings"), details.get("metrics")),
    }


def accuracy_of(classifier: Classifier) -> float | None:
    """Return the accuracy of the file on the test split, 0 to 1, as its certificate has it."""
    details, precision = classifier.spec.details, classifier.spec.precision
    if precision != "fp32":
        return _number(_comparison(classifier).get(f"accuracy_{precision}"))
    return _number(under(details, "metrics", "test").get("accuracy"))


def inexactness_of(classifier: Classifier) -> float:
    """Return a number that is smaller the more exact a file is.

    It is -1 for fp32, and for fp16 and int8 the number of test pictures whose class it changed; infinite if that is
    unknown.
    """
    if classifier.spec.precision == "fp32":
        return -1.0
    flips = _number(_comparison(classifier).get("flips"))
    return float("inf") if flips is None else flips


def _comparison(classifier: Classifier) -> Mapping[str, Any]:
    """What the certificate of an fp16 or int8 file says of the test split; empty if that is unknown."""
    parity = under(classifier.spec.details, "parity")
    if classifier.spec.precision == "fp16":
        return under(parity, "fp32_against_fp16")
    return under(parity, "fp32_against_int8", "test")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
