"""The defaults that depend on the data or on other options: :func:`resolve` completes a configuration."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping
from typing import Any

from cnn_infer.pixels.convert import Header

from cnn_train.config import DEFAULTS, Config
from cnn_train.data.dataset import Dataset
from cnn_train.data.named_sets import NAMED
from cnn_train.data.symmetry import is_asymmetric
from cnn_train.network.lite import LITE0
from cnn_train.network.presets import PRESETS
from cnn_train.network.pretrained import INSTALL, is_installed

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

NO_CUTOUT = "nano"
"""The network that is trained without cutout on at least :data:`EARLY_STOPPING_BELOW` pictures: it cannot memorise so
many, and cutout costs accuracy (benchmarks/results/training_recipe.md)."""

FEW_PICTURES = 500
"""Training pictures per class below which pretrained weights are proposed: see benchmarks/results/few_pictures.md."""

FINE_TUNING_RATE = {"muon": 0.01, "sgd": 0.005, "adam": 5e-4, "adamw": 5e-4}
"""Peak learning rates of the last layer with pretrained weights, at any batch size."""

FINE_TUNING_PICTURES, FINE_TUNING_EPOCHS = 16_000, (5, 30)
"""Default length of fine-tuning in pictures, and the least and the most epochs for it
(benchmarks/results/few_pictures.md)."""

PRETRAINED_SIDES, ENLARGED = (96, 224), 4
"""With pretrained weights the default is a square of four times the pictures' longer side, within these limits.
The weights were trained on 224 x 224 pixels, and the features of enlarged small pictures are better, but cost more."""


def pretrained_side(headers: Mapping[Header, int]) -> int:
    """Return the default side in pixels of the square pictures for pretrained weights, a multiple of 32.

    Args:
        headers: The sizes of the pictures, with the number of pictures of each.
    """
    least, most = PRETRAINED_SIDES
    longest = max((max(header.width, header.height) for header in headers), default=most)
    return min(most, max(least, 32 * (ENLARGED * longest // 32)))


def resolve(options: Mapping[str, Any], dataset: Dataset) -> Config:
    """Complete a configuration: choose the options that are not given by the data and by each other.

    Args:
        options: Given options, as :func:`cnn_train.config.checked` returns them.
        dataset: The decoded pictures; their size becomes ``height`` and ``width``.
    """
    given = {**DEFAULTS, **options}
    given.pop("size", None)  # the pictures have it
    is_preset, pretrained = given["model"] in PRESETS, given["pretrained"]
    optimizer = given.setdefault("optimizer", "adamw" if pretrained else "muon" if is_preset else "sgd")
    count = len(dataset.train.labels)
    batch_size = given.setdefault("batch_size", _batch_size(count))
    rate = LEARNING_RATE[optimizer] * min(batch_size, count) / BATCH_SIZE
    given.setdefault("lr", FINE_TUNING_RATE[optimizer] if pretrained else rate)
    epochs = given.setdefault("epochs", _fine_tuning_epochs(count) if pretrained else _epochs(count, batch_size))
    given.setdefault("patience", 0 if pretrained else _patience(count, epochs))
    given.setdefault("weight_decay", WEIGHT_DECAY[optimizer])
    given.setdefault("dropout", 0.0 if is_preset else None)
    if "augment" not in given:
        given["augment"] = _augmentations(dataset, given["model"], pretrained=pretrained)
    return Config(**with_absolute_paths(given), height=dataset.height, width=dataset.width)


def with_absolute_paths(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with absolute paths, because a run folder may be used from another working directory."""
    paths = {"data_dir", "cache", "teacher", *(() if options.get("data") in ("digits", *NAMED) else ("data",))}
    return {key: os.path.abspath(value) if key in paths and value else value for key, value in options.items()}


def pretrained_tip(asked: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Return one line that proposes pretrained weights for few photographs, with the command; None if it is no use.

    Args:
        asked: The options that the user gave. Who chose a network gets no proposal.
        dataset: The decoded pictures.
    """
    few = len(dataset.train.labels) < FEW_PICTURES * len(dataset.source.classes)
    if "model" in asked or "pretrained" in asked or dataset.colour != "rgb" or not few or _shows_signs(dataset):
        return None
    first = "" if is_installed() else f" (first: {INSTALL})"
    command = shlex.join(["cnn-train", asked.get("data", DEFAULTS["data"]), "--model", LITE0, "--pretrained"])
    return f"few pictures: pretrained weights usually classify more of them correctly: {command}{first}"


def _shows_signs(dataset: Dataset) -> bool:
    """Whether the class names, of one character or of digits, mean that the pictures show characters."""
    return all(len(name) == 1 or name.isdecimal() for name in dataset.source.classes)


def _batch_size(count: int) -> int:
    """The largest power of two with :data:`MIN_STEPS_PER_EPOCH` steps per epoch, within the two limits."""
    power_of_two = 1 << max(0, (count // MIN_STEPS_PER_EPOCH).bit_length() - 1)
    return min(BATCH_SIZE, max(MIN_BATCH_SIZE, power_of_two))


def _epochs(count: int, batch_size: int) -> int:
    usual = min(60, max(10, round(PICTURES_SEEN / count)))
    return max(usual, min(200, math.ceil(MIN_STEPS * batch_size / count)))


def _fine_tuning_epochs(count: int) -> int:
    """Two epochs that fit the last layer, and those that fine-tune."""
    least, most = FINE_TUNING_EPOCHS
    return 2 + min(most, max(least, round(FINE_TUNING_PICTURES / count)))


def _patience(count: int, epochs: int) -> int:
    """Half of the epochs. The validation loss stays on a noisy plateau while the learning rate is high and improves
    again at the end of the cycle, so a shorter patience would stop too early.
    """
    return max(10, epochs // 2) if count < EARLY_STOPPING_BELOW else 0


def _augmentations(dataset: Dataset, model: str, *, pretrained: bool) -> tuple[str, ...]:
    # a mirror changes characters
    flip = () if _shows_signs(dataset) or is_asymmetric(dataset.train.images, dataset.train.labels) else ("flip",)
    if pretrained:
        return (*flip, "zoom", "colour")  # as in the training of the weights
    memorises = model != NO_CUTOUT or len(dataset.train.labels) < EARLY_STOPPING_BELOW
    cutout = ("cutout",) if min(dataset.height, dataset.width) >= 24 and memorises else ()
    return (*flip, "crop", *cutout)
