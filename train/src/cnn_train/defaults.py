"""The defaults that depend on the data or on other options: :func:`resolve` completes a configuration."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from cnn_train.config import DEFAULTS, Config
from cnn_train.data.dataset import Dataset
from cnn_train.data.named_sets import NAMED
from cnn_train.data.symmetry import is_asymmetric
from cnn_train.network.presets import PRESETS

BATCH_SIZE = 256
MIN_BATCH_SIZE = 32
MIN_STEPS_PER_EPOCH = 16
"""A small set gets smaller batches, down to :data:`MIN_BATCH_SIZE`, so that an epoch has this many steps."""

LEARNING_RATE = {"muon": 0.08, "sgd": 0.2, "adam": 2e-3, "adamw": 2e-3}
"""Peak learning rates for batches of :data:`BATCH_SIZE`; they scale in proportion to the batch size (Goyal et al.,
2017, arXiv:1706.02677)."""

WEIGHT_DECAY = {"muon": 5e-4, "sgd": 5e-4, "adam": 0.0, "adamw": 0.05}

PICTURES_SEEN = 800_000
"""Default length of a training in pictures, about 15 epochs of MNIST. Small sets get more epochs, up to 60."""

MIN_STEPS = 1_000
"""If 60 epochs have fewer steps than this, the set gets more epochs, up to 200."""

EARLY_STOPPING_BELOW = 10_000
"""With fewer training pictures than this a network can memorise them, so early stopping is on by default."""


def resolve(options: Mapping[str, Any], dataset: Dataset) -> Config:
    """Complete a configuration: choose the options that are not given by the data and by each other.

    Args:
        options: Given options, as :func:`cnn_train.config.checked` returns them.
        dataset: The decoded pictures; their size becomes ``height`` and ``width``.
    """
    given = {**DEFAULTS, **options}
    given.pop("size", None)  # the pictures have it
    is_preset = given["model"] in PRESETS
    optimizer = given.setdefault("optimizer", "muon" if is_preset else "sgd")
    count = len(dataset.train.labels)
    batch_size = given.setdefault("batch_size", _batch_size(count))
    given.setdefault("lr", LEARNING_RATE[optimizer] * min(batch_size, count) / BATCH_SIZE)
    epochs = given.setdefault("epochs", _epochs(count, batch_size))
    given.setdefault("patience", _patience(count, epochs))
    given.setdefault("weight_decay", WEIGHT_DECAY[optimizer])
    given.setdefault("dropout", 0.0 if is_preset else None)
    if "augment" not in given:
        given["augment"] = _augmentations(dataset)
    paths = {"data_dir", "cache"} if given["data"] in ("digits", *NAMED) else {"data", "data_dir", "cache"}
    for key in paths & given.keys():  # a run folder may be used from another working directory
        given[key] = os.path.abspath(given[key])
    return Config(**given, height=dataset.height, width=dataset.width)


def _batch_size(count: int) -> int:
    """The largest power of two with :data:`MIN_STEPS_PER_EPOCH` steps per epoch, within the two limits."""
    power_of_two = 1 << max(0, (count // MIN_STEPS_PER_EPOCH).bit_length() - 1)
    return min(BATCH_SIZE, max(MIN_BATCH_SIZE, power_of_two))


def _epochs(count: int, batch_size: int) -> int:
    usual = min(60, max(10, round(PICTURES_SEEN / count)))
    return max(usual, min(200, math.ceil(MIN_STEPS * batch_size / count)))


def _patience(count: int, epochs: int) -> int:
    """Half of the epochs. The validation loss stays on a noisy plateau while the learning rate is high and improves
    again at the end of the cycle, so a shorter patience would stop too early.
    """
    return max(10, epochs // 2) if count < EARLY_STOPPING_BELOW else 0


def _augmentations(dataset: Dataset) -> tuple[str, ...]:
    # class names of one character or of digits mean that the pictures show signs, which a mirror changes
    signs = all(len(name) == 1 or name.isdecimal() for name in dataset.source.classes)
    flip = () if signs or is_asymmetric(dataset.train.images, dataset.train.labels) else ("flip",)
    cutout = ("cutout",) if min(dataset.height, dataset.width) >= 24 else ()
    return (*flip, "crop", *cutout)
