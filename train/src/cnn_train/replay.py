"""What a trained network saw and computed, once more: its pixels, its inputs, its logits.

cnn-export compares with these what it exports; the walk-through draws them.
"""

from cnn_train.data.dataset import read_split
from cnn_train.data.decode import decode_digest
from cnn_train.metrics import cross_entropy, pixel_digest, probabilities_of
from cnn_train.network.logits import logits_of, to_input
from cnn_train.recipe.augment import augment

__all__ = [
    "augment",
    "cross_entropy",
    "decode_digest",
    "logits_of",
    "pixel_digest",
    "probabilities_of",
    "read_split",
    "to_input",
]
