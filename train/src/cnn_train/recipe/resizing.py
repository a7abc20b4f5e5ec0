"""Progressive resizing: smaller pictures for a part of the training, which cost less.

Our own networks see smaller pictures in the early epochs (Howard, 2018,
https://www.fast.ai/posts/2018-04-30-dawnbench-fastai.html; Tan and Le, 2021, arXiv:2104.00298).

``lite0`` with pretrained weights is fine-tuned on pictures of about two thirds of the final size, and only its last
layer is fitted at the final size. Zoom enlarges the objects in training, and the larger size enlarges those that the
finished network sees (Touvron et al., 2019, "Fixing the train-test resolution discrepancy", arXiv:1906.06423).
"""

from __future__ import annotations

import math

from cnn_train.config import Config
from cnn_train.network.lite import LITE0
from cnn_train.network.presets import PRESETS
from cnn_train.recipe.finetuning import fits_again, learning_epochs

SMALL_EPOCHS, SMALL_SCALE, SMALL_FROM = 0.4, 0.75, 24
"""In the first 40% of the epochs of our own networks the sides of the pictures are scaled by 0.75, if both have at
least 24 pixels. Such an epoch costs little more than half."""

LONG_SIDE, SMALL_FROM_LONG = 112, 40
"""Networks for longer pictures begin with 4x4 space to depth. Then both sides must have at least 40 pixels, because the
poolings of the network need 32 of them."""

FINE_TUNING_SCALE, CELL = 2 / 3, 32
"""Sides of the pictures for fine-tuning as a part of the final ones. The shorter one is rounded up to a multiple of 32
pixels: the last features of ``lite0`` have one value for each 32 x 32 pixels."""


def picture_size(config: Config, number: int) -> tuple[int, int]:
    """The (height, width) in pixels of the pictures that an epoch shows.

    Args:
        config: The settings of the training, with the final size.
        number: Number of the epoch, from 0.
    """
    size = config.height, config.width
    if config.model == LITE0 and fits_again(config) and number in learning_epochs(config):
        scale = min(1.0, CELL * math.ceil(FINE_TUNING_SCALE * min(size) / CELL) / min(size))
        return round(scale * size[0]), round(scale * size[1])
    least = SMALL_FROM_LONG if max(size) > LONG_SIDE else SMALL_FROM
    if config.model not in PRESETS or number >= round(SMALL_EPOCHS * config.epochs) or min(size) < least:
        return size
    return round(size[0] * SMALL_SCALE / 4) * 4, round(size[1] * SMALL_SCALE / 4) * 4
