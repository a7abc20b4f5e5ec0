"""Run a model on many pictures, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from cnn_infer import Classifier
from numpy.typing import NDArray

BATCH = 128

Pictures = NDArray[np.uint8]
Outputs = Sequence[NDArray[np.float32]]


def in_batches(run: Callable[[Pictures], Outputs], pictures: Pictures) -> list[NDArray[np.float32]]:
    """Return each output of ``run`` for all pictures, float32 (n, ...).

    Args:
        run: Takes a batch of pictures and returns its outputs.
        pictures: uint8 (n, height, width, channels), at least one.
    """
    starts = range(0, len(pictures), BATCH)
    parts = [run(np.ascontiguousarray(pictures[start : start + BATCH])) for start in starts]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]


def probabilities_of(classifier: Classifier, pictures: Pictures) -> NDArray[np.float32]:
    """The probabilities of pictures, float32 (n, classes)."""
    (found,) = in_batches(lambda batch: [classifier.probabilities(batch)], pictures)
    return found
