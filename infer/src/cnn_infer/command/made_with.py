"""What a resumed run must have in common with the interrupted one: for a file of rows, and for a job on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnn_infer import __version__
from cnn_infer.errors import InputError

if TYPE_CHECKING:
    from cnn_infer.classifier import Classifier
    from cnn_infer.command.classify import Settings

MadeWith = dict[str, Any]
"""Versions and digests by the words for them in messages, and under :data:`OPTIONS` the values of options. All JSON."""

OPTIONS = "options"

FILES = "the set of files"
"""The word for the digest of the files, which is known last."""


def made_with(classifier: Classifier, settings: Settings, more_options: Mapping[str, Any] | None = None) -> MadeWith:
    """Return all that changes rows or report, but for the set of files.

    Args:
        classifier: The model.
        settings: How pictures are classified.
        more_options: Values of other options that must stay the same, by the names of the options.
    """
    options = {
        "--format": settings.form,
        "--labels": settings.labels,
        "--top": settings.top,
        "--threshold": settings.threshold,
        "--max-pixels": settings.max_pixels,
        "--max-bytes": settings.max_bytes,
        "--strangers": settings.strangers,
        "--device-option": dict(classifier.model.device_options),
        **(more_options or {}),
    }
    return {
        "the version of cnn-infer": __version__,
        "the model": classifier.model.digest,
        "the device": classifier.provider,
        OPTIONS: options,
        **({} if settings.truth is None else {"the labels file": settings.truth.digest}),
    }


def check_unchanged(begun: MadeWith, now: MadeWith, *, name: str, restart: str) -> None:
    """Check that a run can be resumed.

    Args:
        begun: What the interrupted run was started with.
        now: The same of this run.
        name: What is resumed, for the message.
        restart: How to start again instead, for the message.

    Raises:
        InputError: something changed, or only one of the two runs has it, such as a labels file.
    """
    before, after = _flat(begun), _flat(now)
    for key in {**after, **before}:
        if before.get(key) != after.get(key):
            raise InputError(f"{key} changed since {name} was started: undo the change, or {restart}")


def _flat(made_with: MadeWith) -> dict[str, Any]:
    found = dict(made_with)
    options = found.pop(OPTIONS, None)
    return {**found, **(options if isinstance(options, dict) else {OPTIONS: options})}
