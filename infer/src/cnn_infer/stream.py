"""Many pictures through one classifier: in order, on all cores, a few batches in memory at a time."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cnn_infer.errors import InputError, PictureError

if TYPE_CHECKING:
    from cnn_infer.classifier import Classifier, Prediction
    from cnn_infer.pixels import Picture


class Answer(NamedTuple):
    """One picture's outcome: a prediction or an error, and the milliseconds it took.

    ``model_ms`` is the picture's share of its batch's run; ``total_ms`` adds reading, decoding and resizing.
    """

    prediction: Prediction | None
    error: PictureError | None
    model_ms: float
    total_ms: float


def classify(
    classifier: Classifier, pictures: Iterable[Picture], *, batch_size: int = 32, workers: int = 1
) -> Iterator[Answer]:
    """Classify ``pictures``; answers come in their order.

    Every worker takes a whole batch: it decodes the pictures and runs the model, one session call on the
    worker's own thread. So all cores stay busy, nothing is handed between threads, and what is in memory
    does not depend on the number of pictures.

    Raises:
        InputError: ``batch_size`` or ``workers`` is less than 1.
    """
    if batch_size < 1 or workers < 1:
        raise InputError("the batch size and the number of threads must be at least 1")
    items = iter(pictures)
    waiting: deque[Future[list[Answer]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cnn-infer")
    try:
        while batch := list(itertools.islice(items, batch_size)):
            waiting.append(pool.submit(_classify_batch, classifier, batch))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _classify_batch(classifier: Classifier, pictures: list[Picture]) -> list[Answer]:
    decoded: list[np.ndarray | PictureError] = []
    spent: list[float] = []
    for picture in pictures:
        start = time.perf_counter()
        try:
            decoded.append(classifier.pixels(picture))
        except PictureError as error:
            decoded.append(error)
        spent.append(1e3 * (time.perf_counter() - start))
    good = [item for item in decoded if not isinstance(item, PictureError)]
    rows: Iterator[np.ndarray] = iter(())
    share = 0.0
    if good:
        start = time.perf_counter()
        rows = iter(classifier.probabilities(np.stack(good)))
        share = 1e3 * (time.perf_counter() - start) / len(good)
    return [
        Answer(None, item, 0.0, decoding)
        if isinstance(item, PictureError)
        else Answer(classifier.to_prediction(next(rows)), None, share, decoding + share)
        for item, decoding in zip(decoded, spent, strict=True)
    ]
