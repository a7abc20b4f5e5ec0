"""The teacher of a distillation: a finished run, checked against the training that learns from it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from cnn_infer.run_files import WEIGHTS

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.data.dataset import Dataset, cache_folder, cached_split
from cnn_train.errors import ConfigError, RunError
from cnn_train.recipe.distillation import Teacher
from cnn_train.run.folder import Run

log = logging.getLogger(__name__)


def open_teacher(options: Mapping[str, Any], out: str | os.PathLike[str] | None) -> Run | None:
    """Return the run that ``options`` name as the teacher, or None if they name none.

    Args:
        options: Given options, as :func:`cnn_train.config.checked` returns them.
        out: The run folder of the training, if it is known.

    Raises:
        RunError: the teacher is no finished run, it is damaged, or ``out`` would replace it.
        ConfigError: the teacher would have no effect, or it has seen the test pictures of the fold.
    """
    folder = options.get("teacher")
    if folder is None:
        return None
    try:
        run = Run.open(folder)
    except RunError as error:
        raise RunError(f"--teacher: {error}") from error
    if out is not None and os.path.realpath(out) == os.path.realpath(folder):
        raise RunError(f"{out} is the folder of the teacher: pass another --out")
    if options.get("pretrained") and options.get("epochs") == 1:
        raise ConfigError("no effect with --pretrained --epochs 1, which fits the last layer to the labels: --teacher")
    fold = options.get("fold")
    if fold is not None and run.config.fold != fold:
        raise ConfigError(
            f"the teacher {folder} was not trained with --fold {fold}, so it has seen test pictures: train a teacher "
            "for each fold"
        )
    return run


def check_classes(run: Run, dataset: Dataset) -> None:
    """Raise :class:`ConfigError` if the teacher has other classes than the pictures of a training."""
    theirs, ours = run.spec.classes, dataset.source.classes
    if set(theirs) != set(ours):
        missing = [name for name in ours if name not in theirs]
        extra = [name for name in theirs if name not in ours]
        which = f"it lacks {missing[0]!r}" if missing else f"the data has no {extra[0]!r}"
        raise ConfigError(f"the teacher {run.path} has other classes than the data: {which}")


def make_teacher(run: Run, settings: Config, dataset: Dataset, device: torch.device) -> Teacher:
    """Load the network of a run, and decode the training pictures at its size into the cache.

    Args:
        run: From :func:`open_teacher`.
        settings: The settings of the training.
        dataset: The pictures of the training.
        device: Where the training computes.

    Raises:
        ConfigError: the classes differ.
        RunError: the weights are damaged, or do not fit the run's configuration; or the training pictures changed.
        DataError: the cache cannot be written, or the teacher's size makes other pictures unreadable.
    """
    check_classes(run, dataset)
    spec, classes = run.spec, dataset.source.classes
    digest = hashlib.sha256((run.path / WEIGHTS).read_bytes()).hexdigest()
    network = run.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with distributed.main_process_first():
        train, fingerprint = cached_split(dataset.source, "train", spec, cache_folder(settings.cache))
    if fingerprint != dataset.fingerprints["train"]:
        raise RunError(f"the training pictures changed while they were decoded for the teacher {run.path}: start again")
    order = torch.tensor([spec.classes.index(name) for name in classes], device=device)
    accuracy = run.report["test"]["accuracy"]
    log.info(
        f"teacher: {run.path}, {run.config.model}, {spec.width} x {spec.height} pixels, test accuracy {accuracy:.2%}"
    )
    return Teacher(network, spec, train.images, order, digest)


def leak_warning(teacher: Teacher | None, dataset: Dataset) -> str | None:
    """Return a warning if there is a teacher that may have been trained on pictures of the test split."""
    if teacher is None:
        return None
    known = teacher.spec.details.get("data", {}).get("fingerprints", {})
    if known.get("test") == dataset.fingerprints["test"]:
        return None
    return (
        "the teacher was trained with another test split: if it has seen these test pictures, the test accuracy is "
        "too high (train both with the same data and --seed)"
    )
