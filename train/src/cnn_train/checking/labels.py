"""Labels that a trained network doubts: confident learning.

Northcutt et al., 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv:1911.00068.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from cnn_infer.run_files import CONFIG

from cnn_train.checking.finding import Finding
from cnn_train.data.dataset import cached_split
from cnn_train.data.folds import with_fold
from cnn_train.data.lazy_names import Names
from cnn_train.data.tree import Records, selected
from cnn_train.errors import DataError, RunError
from cnn_train.metrics import probabilities_of
from cnn_train.network.logits import logits_of
from cnn_train.options import fold_of
from cnn_train.run.folder import Run

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from cnn_train.checking.pictures import Pictures
    from cnn_train.checking.survey import Survey

log = logging.getLogger(__name__)

LEARNED = "in-sample: the network was trained on this label"
HELD_OUT = "out of sample: the network was not trained on it"
OUT_OF_FOLD = "out of fold: the network was not trained on it"
"""Where the probabilities come from. Those of learned labels are too certain, so that few errors are found."""


class Judged(NamedTuple):
    """The probabilities of some pictures.

    Attributes:
        positions: int64 (n,), among all pictures.
        probabilities: float32 (n, classes), calibrated.
        origin: One of :data:`LEARNED`, :data:`HELD_OUT` and :data:`OUT_OF_FOLD`.
    """

    positions: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    origin: str


def runs_in(path: Path) -> list[Run]:
    """Return the run in a folder, or the runs of all folds if it is the folder of a cross-validation.

    Raises:
        RunError: there is no finished run, or a fold is missing.
    """
    if not (path / "fold-1" / CONFIG).is_file():
        return [Run.open(path)]
    first = Run.open(path / "fold-1")
    fold = fold_of(first.config.fold or "")
    if fold is None:
        raise RunError(f"{path / 'fold-1'} is not the first fold of a cross-validation")
    return [first, *(Run.open(path / f"fold-{number}") for number in range(2, fold[1] + 1))]


def label_findings(
    runs: Sequence[Run], pictures: Pictures, survey: Survey, cache: Path, device: torch.device
) -> Iterator[Finding]:
    """Yield the labels that the networks doubt.

    Args:
        runs: One run with the splits of ``pictures``, or the runs of all folds, where ``pictures`` has one split.
        pictures: All pictures.
        survey: What is known of them.
        cache: Folder of decoded pictures.
        device: Where to compute.

    Raises:
        DataError: the pictures changed since ``survey`` read them, or the cache cannot be written.
        RunError: the weights of a run are damaged.
    """
    found = [*_judged(runs, pictures, survey, cache, device)]
    for origin in dict.fromkeys(judged.origin for judged in found):
        own = [judged for judged in found if judged.origin == origin]
        positions = np.concatenate([judged.positions for judged in own])
        probabilities = np.concatenate([judged.probabilities for judged in own])
        labels = pictures.labels[positions]
        suspected = doubted(probabilities, labels)
        for row in np.flatnonzero(suspected >= 0).tolist():
            at, other = int(positions[row]), int(suspected[row])
            likely, given = float(probabilities[row, other]), float(probabilities[row, labels[row]])
            detail = (
                f"labelled {pictures.label(at)} with probability {given:.2f}, {pictures.source.classes[other]} has "
                f"{likely:.2f} ({origin})"
            )
            yield Finding("doubted-label", pictures.path(at), "", detail, at, rank=likely - given)


def doubted(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class that each picture counts for in the confident joint, where that is not its label.

    A picture counts for a class if its probability is at least the mean probability of the class among the pictures
    that have it as their label; of several such classes for the most probable one.

    Args:
        probabilities: float32 (n, classes), better from networks that were not trained on these labels.
        labels: int64 (n,).

    Returns:
        int64 (n,): the other class, or -1 for a label that is not doubted.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, own, minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = probabilities >= thresholds
    suspected = np.where(confident, probabilities, -1).argmax(axis=1)
    result: NDArray[np.int64] = np.where(confident.any(axis=1) & (suspected != labels), suspected, -1)
    return result


def _judged(
    runs: Sequence[Run], pictures: Pictures, survey: Survey, cache: Path, device: torch.device
) -> Iterator[Judged]:
    for run in runs:
        network = run.network().to(device)
        for split, positions, records in _parts(run, pictures):
            source = replace(pictures.source, splits={split: records})
            images, fingerprint = cached_split(source, split, run.spec, cache)
            kept = positions[survey.readable[positions]]
            if len(kept) != len(images.labels):
                raise DataError("pictures changed while they were checked: run the check again")
            _compare(run, split, fingerprint)
            logits = logits_of(network, images.images, run.spec, device)
            origin = OUT_OF_FOLD if len(runs) > 1 else LEARNED if split == "train" else HELD_OUT
            yield Judged(kept, probabilities_of(logits, run.spec.temperature), origin)


def _parts(run: Run, pictures: Pictures) -> Iterator[tuple[str, NDArray[np.int64], Records]]:
    """The splits that a run judges: name, positions among all pictures, and the pictures."""
    fold = fold_of(run.config.fold or "")
    given = pictures.source.splits
    if fold is None or len(given) > 1:
        for number, (split, records) in enumerate(given.items()):
            yield split, np.arange(pictures.starts[number], pictures.starts[number + 1]), records
        return
    train = given["train"]
    numbered = Records(Names(str, np.arange(len(train.labels))), train.labels, train.groups)
    test = with_fold(pictures.source.name, {"train": numbered}, pictures.source.classes, fold, run.config.seed)["test"]
    positions = np.array([int(name) for name in test.pictures], np.int64)
    yield "test", positions, selected(train, positions)


def _compare(run: Run, split: str, fingerprint: str) -> None:
    data = run.spec.details.get("data")
    stored = data.get("fingerprints", {}).get(split) if isinstance(data, dict) else None
    if stored is not None and stored != fingerprint:
        log.warning(f"the {split} pictures are not those of {run.path}: files were added, removed or changed since")
