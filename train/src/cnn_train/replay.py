"""The steps from a picture to logits, as training computes them: for cnn-export and the walk-through notebook.

cnn-export compares the exported file with these functions, and measures networks from elsewhere with them; the notebook
shows what they do.
"""

from cnn_train.data.dataset import read_split
from cnn_train.data.decode import decode_digest
from cnn_train.data.output_guard import check_outside
from cnn_train.data.source import spellings
from cnn_train.metrics import (
    cross_entropy,
    difference_interval,
    fit_temperature,
    mcnemar_p,
    metrics_of,
    pixel_digest,
    probabilities_of,
)
from cnn_train.network.build import build as build_network
from cnn_train.network.logits import logits_of, to_input
from cnn_train.recipe.augment import augment
from cnn_train.recipe.fit import learning_rate_factor

__all__ = [
    "augment",
    "build_network",
    "check_outside",
    "cross_entropy",
    "decode_digest",
    "difference_interval",
    "fit_temperature",
    "learning_rate_factor",
    "logits_of",
    "mcnemar_p",
    "metrics_of",
    "pixel_digest",
    "probabilities_of",
    "read_split",
    "spellings",
    "to_input",
]
