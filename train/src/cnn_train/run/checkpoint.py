"""The checkpoint of a training. It is written after each epoch and read by ``--resume``."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cnn_infer.run_files import CHECKPOINT
from cnn_infer.system.atomic import write_bytes
from torch import Tensor

from cnn_train.errors import RunError
from cnn_train.recipe.fit import Epoch

CHECKPOINT_FORMAT = 4


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``len(epochs)`` epochs. Random numbers need no state: they follow from the seed.

    Attributes:
        epochs: The finished epochs.
        network: The network's state after the last epoch.
        optimizer: The optimizer's state.
        scaler: The gradient scaler's state; empty without fp16.
        fingerprints: The fingerprint of each split of the data set.
        best: The network's state after the epoch with the best validation loss.
        losses: float32 (n,), the loss of each training picture when it was last used.
        teacher: SHA-256 of the teacher's weights, hexadecimal; empty without one.
        pretrained: SHA-256 of the pretrained weights, hexadecimal; empty without them.
        warnings: The warnings so far, for the report.
    """

    epochs: list[Epoch]
    network: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    fingerprints: dict[str, str]
    best: dict[str, Any]
    losses: Tensor
    teacher: str = ""
    pretrained: str = ""
    warnings: list[str] = field(default_factory=list)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint into a run folder, atomically."""
    document = {"format": CHECKPOINT_FORMAT, **vars(checkpoint), "epochs": [vars(epoch) for epoch in checkpoint.epochs]}
    stream = io.BytesIO()  # torch.save to a file hides the reason of a disk error
    torch.save(document, stream)
    write_bytes(path / CHECKPOINT, stream.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the checkpoint in a run folder. Only tensors and plain values are unpickled.

    Raises:
        RunError: there is no checkpoint, it is damaged, or it is of another version.
    """
    file = path / CHECKPOINT
    try:
        document = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
        found = document.pop("format")
        if found != CHECKPOINT_FORMAT:
            raise RunError(
                f"{file} has format {found}, this version reads {CHECKPOINT_FORMAT}: start again with --overwrite"
            )
        return Checkpoint(**{**document, "epochs": [Epoch(**epoch) for epoch in document["epochs"]]})
    except OSError as error:
        raise RunError(f"nothing to resume in {path}: {file.name}: {error.strerror}") from error
    except (RuntimeError, pickle.UnpicklingError, KeyError, TypeError, EOFError, AttributeError, ValueError) as error:
        raise RunError(f"{file} is damaged: start again with --overwrite ({type(error).__name__})") from error
