"""The configuration of a run: what can be set, what it is where nothing is said, and how it is stored.

An option's value comes from the call or the command line, else from ``--config``, else from
:func:`resolve`, which decides by what the data itself says: channels, size, number of pictures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
from cnn_infer.spec import Resize
from cnn_infer.system.atomic import write_text

from cnn_train.data.dataset import Dataset
from cnn_train.data.named_sets import NAMED
from cnn_train.data.symmetry import has_a_side
from cnn_train.errors import ConfigError
from cnn_train.network.presets import PRESETS
from cnn_train.options import checked, read_toml

BATCH_SIZE = 256
LEARNING_RATE = {"muon": 0.08, "sgd": 0.2, "adam": 2e-3, "adamw": 2e-3}
"""Peak learning rates for :data:`BATCH_SIZE`; another batch size scales them in proportion (Goyal et al.,
2017, arXiv:1706.02677)."""

WEIGHT_DECAY = {"muon": 5e-4, "sgd": 5e-4, "adam": 0.0, "adamw": 0.05}

PICTURES_SEEN = 800_000
"""Default length of a training in pictures: fifteen epochs of MNIST. Small sets get more epochs, up to 60."""

LEAST_STEPS = 1_000
"""Sets so small that 60 epochs are fewer steps than this get more epochs, up to 200."""

FEW_PICTURES = 10_000
"""Below so many training pictures a network can learn them by heart, so early stopping watches."""


@dataclass(frozen=True)
class Config:
    """A resolved configuration, as ``config.toml`` in a run folder holds it.

    Attributes:
        data: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or a folder.
        model: A preset or a torchvision classification model.
        pretrained: Start from torchvision's weights.
        epochs: Passes over the training pictures, at most.
        patience: Epochs without a better one on validation that end the training; 0 for never.
        batch_size: Pictures to a step.
        lr: Peak learning rate.
        optimizer: ``muon`` (for filters; ``sgd`` for the rest), ``sgd`` (with Nesterov momentum 0.9), ``adam`` or
            ``adamw``.
        weight_decay: Of weights; never of biases and norms.
        label_smoothing: 0 to below 1 (Szegedy et al., 2016, arXiv:1512.00567).
        augment: Out of :data:`cnn_train.options.AUGMENTATIONS`, in any order; empty for none.
        balance: Draw every class equally often.
        height: Rows of the network's input, in pixels.
        width: Columns of the network's input, in pixels.
        resize: ``squash``, ``crop`` or ``pad``.
        seed: Of everything random: splits, weights, order, augmentation.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        strict: An unreadable picture is an error.
        dropout: Probability before the last layer; None keeps the architecture's own.
        data_dir: Where named sets are looked for first.
        cache: Where decoded pictures are kept; None for the user's cache folder.
    """

    data: str
    model: str
    pretrained: bool
    epochs: int
    patience: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    label_smoothing: float
    augment: tuple[str, ...]
    balance: bool
    height: int
    width: int
    resize: Resize
    seed: int
    device: str
    precision: str
    strict: bool
    dropout: float | None = None
    data_dir: str | None = None
    cache: str | None = None

    def save(self, path: Path) -> None:
        """Write it as TOML; what is None is left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        write_text(path, tomli_w.dumps({**values, "augment": list(self.augment)}))

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: the file is missing, damaged, or of another version.
        """
        values = read_toml(path)
        sides = {key: values.pop(key) for key in ("height", "width") if key in values}
        for key, side in sides.items():
            if type(side) is not int or side < 1:
                raise ConfigError(f"{key} must be a whole number of at least 1, not {side!r} in {path}")
        try:
            return cls(**checked(values, f" in {path}"), **sides)
        except TypeError as error:
            raise ConfigError(f"{path} is of another version or incomplete: {error}") from error


def resolve(options: Mapping[str, Any], dataset: Dataset) -> Config:
    """Decide what was not asked for by what the data says.

    Args:
        options: As :func:`checked` returns them.
        dataset: The decoded pictures.
    """
    own = options.get("model", "small") in PRESETS
    optimizer = options.get("optimizer", "muon" if own else "sgd")
    count = len(dataset.train.labels)
    batch_size, lr = _batch_size_and_rate(options, optimizer, count)
    epochs = options.get("epochs", _epochs(count, batch_size))
    return Config(
        data=_absolute(options.get("data", "digits")),
        model=options.get("model", "small"),
        pretrained=options.get("pretrained", False),
        epochs=epochs,
        patience=options.get("patience", _patience(count, epochs)),
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        weight_decay=options.get("weight_decay", WEIGHT_DECAY[optimizer]),
        label_smoothing=options.get("label_smoothing", 0.1),
        augment=options["augment"] if "augment" in options else _default_augmentations(dataset),
        balance=options.get("balance", False),
        height=dataset.height,
        width=dataset.width,
        resize=options.get("resize", "crop"),
        seed=options.get("seed", 0),
        device=options.get("device", "auto"),
        precision=options.get("precision", "auto"),
        strict=options.get("strict", False),
        dropout=options.get("dropout", 0.0 if own else None),
        data_dir=options.get("data_dir") and os.path.abspath(options["data_dir"]),
        cache=options.get("cache") and os.path.abspath(options["cache"]),
    )


def _absolute(data: str) -> str:
    """A folder's place from anywhere; a named set stays its name."""
    return data if data in ("digits", *NAMED) else os.path.abspath(data)


def _epochs(count: int, batch_size: int) -> int:
    usual = min(60, max(10, round(PICTURES_SEEN / count)))
    return max(usual, min(200, math.ceil(LEAST_STEPS * batch_size / count)))


def _patience(count: int, epochs: int) -> int:
    """Half of the epochs: the cycle of the learning rate brings its best at its end, after a noisy plateau that must
    not be taken for the end of progress.
    """
    return max(10, epochs // 2) if count < FEW_PICTURES else 0


def _batch_size_and_rate(options: Mapping[str, Any], optimizer: str, count: int) -> tuple[int, float]:
    """The one that is not given follows the one that is, in proportion."""
    rate = LEARNING_RATE[optimizer]
    # A small set needs steps more than wide ones: at least 16 to an epoch, of at least 32 pictures each.
    size = min(BATCH_SIZE, max(32, 1 << max(0, (count // 16).bit_length() - 1)))
    if "batch_size" in options:
        size = options["batch_size"]
        return size, options.get("lr", rate * size / BATCH_SIZE)
    if "lr" in options:
        return max(2, round(min(count, BATCH_SIZE * options["lr"] / rate))), options["lr"]
    return size, rate * size / BATCH_SIZE


def _default_augmentations(dataset: Dataset) -> tuple[str, ...]:
    # Classes named by a character or a number are likely to be signs, and those change their meaning in a mirror.
    characters = all(len(name) == 1 or name.isdecimal() for name in dataset.source.classes)
    flip = () if characters or has_a_side(dataset.train.images, dataset.train.labels) else ("flip",)
    cutout = ("cutout",) if min(dataset.height, dataset.width) >= 24 else ()
    return (*flip, "crop", *cutout)
