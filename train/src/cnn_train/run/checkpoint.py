"""The checkpoint of a training: written after each epoch, read by ``--resume``."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cnn_infer.run_files import CHECKPOINT
from cnn_infer.system.atomic import write_bytes
from torch import Tensor

from cnn_train.errors import RunError
from cnn_train.recipe.fit import Epoch

CHECKPOINT_FORMAT = 3


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on after ``len(epochs)`` epochs; random numbers follow from the seed.

    Attributes:
        epochs: What is behind it.
        network: The weights after the last epoch.
        optimizer: The optimizer's state.
        scaler: The gradient scaler's state.
        fingerprints: Of the data, by split.
        best: The weights after the epoch that is best on validation.
        losses: float32 (n,), of each training picture when it was shown last.
    """

    epochs: list[Epoch]
    network: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    fingerprints: dict[str, str]
    best: dict[str, Any]
    losses: Tensor


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it whole or not at all."""
    document = {"format": CHECKPOINT_FORMAT, **vars(checkpoint), "epochs": [vars(epoch) for epoch in checkpoint.epochs]}
    stream = io.BytesIO()  # torch's own writer hides why a disk refuses
    torch.save(document, stream)
    write_bytes(path / CHECKPOINT, stream.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote; only tensors and plain values are unpickled.

    Raises:
        RunError: there is none, it is damaged, or of another version.
    """
    file = path / CHECKPOINT
    try:
        document = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
        found = document.pop("format")
        if found != CHECKPOINT_FORMAT:
            raise RunError(
                f"{file} has format {found}, this version reads {CHECKPOINT_FORMAT}: train anew with --overwrite"
            )
        return Checkpoint(**{**document, "epochs": [Epoch(**epoch) for epoch in document["epochs"]]})
    except OSError as error:
        raise RunError(f"nothing to resume in {path}: {file.name}: {error.strerror}") from error
    except (RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError, AttributeError, ValueError) as error:
        raise RunError(f"{file} is damaged: train anew with --overwrite ({type(error).__name__})") from error
