"""The short form of the check, at the start of each training: what costs no second pass over the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_infer.paths.naming import printable

from cnn_train.checking.classes import class_findings
from cnn_train.data.split_checks import comparison_warnings, crop_warning, shortened

if TYPE_CHECKING:
    from cnn_train.data.dataset import Dataset


def brief_warnings(dataset: Dataset) -> list[str]:
    """Return a warning for each kind of problem: crops, copies between splits, and classes.

    Args:
        dataset: The decoded pictures.

    Returns:
        One line each.
    """
    return [*filter(None, [crop_warning(dataset)]), *comparison_warnings(dataset), *_class_warnings(dataset)]


def whole_check(dataset: Dataset) -> str:
    """Return the line that leads to the whole check."""
    place = printable(dataset.source.path or dataset.source.name)
    return f"cnn-train --check {place} lists the files, and searches for near duplicates"


def _class_warnings(dataset: Dataset) -> list[str]:
    labels = {name: split.labels for name, split in dataset.splits.items()}
    found = [*class_findings(labels, dataset.source.classes)]
    small = [f"{each.path} ({each.detail})" for each in found if each.kind == "small-class"]
    names = [each.path for each in found if each.kind == "class-name"]
    warnings = []
    if small:
        warnings.append(f"nearly empty classes: {shortened(small)}: add pictures, or merge them with other classes")
    if names:
        warnings.append(f"folders that are hardly classes: {shortened(names)}: move them out of the data set")
    return warnings
