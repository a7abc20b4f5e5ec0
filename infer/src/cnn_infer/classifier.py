"""The embed API: one class that turns pictures into predictions."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, overload

import numpy as np

from cnn_infer.errors import InputError, ModelError, PictureError
from cnn_infer.model import INPUT, PROBABILITIES, Model, open_model
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import MAX_PIXELS, to_pixels
from cnn_infer.pixels.read import MAX_BYTES
from cnn_infer.stream import in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.pixels.convert import Picture
    from cnn_infer.spec import Spec

BATCH_SIZE = 32
"""Pictures that go through the model at once, unless somebody says otherwise."""

UNKNOWN = "unknown"
"""The label of a prediction whose probability is below the threshold."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one picture.

    Attributes:
        label: The name of the most probable class, or ``unknown`` below the threshold.
        index: Its index in ``spec.classes``; None where the label is ``unknown``.
        probability: Its probability, 0 to 1.
        top: The most probable classes with their probabilities, best first.
    """

    label: str
    index: int | None
    probability: float
    top: tuple[tuple[str, float], ...]


class Answer(NamedTuple):
    """One of many pictures: a prediction or the reason there is none, and the milliseconds it took.

    ``model_ms`` is the picture's share of its batch's run; ``total_ms`` adds reading, decoding and resizing.
    ``path`` is the picture's where it was given as one; the text of ``error`` does not have it.
    """

    prediction: Prediction | None
    error: PictureError | None
    model_ms: float
    total_ms: float
    path: str | os.PathLike[str] | None


class Classifier:
    """An exported model, ready to classify. Thread-safe; may be used as a context manager.

    Args:
        model: An ``.onnx`` file that cnn-export wrote, its bytes, or an open :class:`~cnn_infer.Model`, which keeps
            the device and the threads that it was opened with.
        device: ``auto`` (CUDA where it comes up, else the CPU), ``cpu``, ``cuda``, ...
        threads: CPU threads of one call. To use all cores on many pictures, leave this at 1 and pass
            ``workers`` to :meth:`predict_many`: small models run faster so.
        top: Classes in :attr:`Prediction.top`.
        threshold: Below this probability the label is ``unknown``.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Picture files of more bytes are refused before they are read.

    Raises:
        ModelError: the file is missing, damaged, or not a model of ours.
        DeviceError: the device does not come up; it never falls back in silence.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Model,
        *,
        device: str = "auto",
        threads: int = 1,
        top: int = 5,
        threshold: float = 0.0,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}")
        if not 0 <= threshold <= 1:
            raise InputError(f"the threshold must be a probability from 0 to 1, not {threshold}")
        self.model = model if isinstance(model, Model) else open_model(model, device=device, threads=threads)
        self.spec: Spec = self.model.spec
        self.provider: str = self.model.provider
        self._run = self.model.session.run
        self._shape = self.spec.shape
        self._top = min(top, len(self.spec.classes))
        self._threshold = threshold
        self._max_pixels = max_pixels
        self._max_bytes = max_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the session goes with the object."""

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """The picture as the model takes it: uint8 (height, width, channels). Raises as :meth:`predict`."""
        return to_pixels(picture, self.spec, max_pixels=self._max_pixels, max_bytes=self._max_bytes)

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of a batch that is already of the model's size: for people with their own cameras.

        Args:
            batch: uint8, shape (n, height, width, channels), as ``spec.shape`` says.

        Returns:
            float32, shape (n, classes); rows sum to 1.

        Raises:
            InputError: the batch has another type or shape.
            ModelError: ONNX Runtime failed, for example for want of memory.
        """
        if not isinstance(batch, np.ndarray):
            raise InputError(f"expected a NumPy array, not {type(batch).__name__}")
        if batch.dtype != np.uint8 or batch.shape[1:] != self._shape or not len(batch):
            raise InputError(
                f"expected uint8 of shape (n, {', '.join(map(str, self._shape))}), not {batch.dtype} {batch.shape}"
            )
        try:
            result: NDArray[np.float32] = self._run([PROBABILITIES], {INPUT: batch})[0]
        except Exception as error:
            raise ModelError(f"the model failed on {len(batch)} pictures: {' '.join(str(error).split())}") from error
        return result

    def predict(self, picture: Picture) -> Prediction:
        """Classify one picture.

        Args:
            picture: A path, the bytes of a file, a PIL image, or a uint8 array, (h, w, 3) RGB or (h, w) grey.

        Raises:
            PictureError: the picture cannot be read.
            InputError: the argument is of another kind.
            ModelError: ONNX Runtime failed, for example for want of memory.
        """
        try:
            pixels = self.pixels(picture)
        except PictureError as error:
            raise _named(error, _path(picture)) from error.__cause__
        return self.to_prediction(self.probabilities(pixels[None])[0])

    @overload
    def predict_many(
        self,
        pictures: Iterable[Picture],
        *,
        batch_size: int = BATCH_SIZE,
        workers: int = 1,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Prediction]: ...

    @overload
    def predict_many(
        self, pictures: Iterable[Picture], *, batch_size: int = BATCH_SIZE, workers: int = 1, errors: Literal["yield"]
    ) -> Iterator[Prediction | PictureError]: ...

    def predict_many(
        self, pictures: Iterable[Any], *, batch_size: int = BATCH_SIZE, workers: int = 1, errors: str = "raise"
    ) -> Iterator[Any]:
        """Classify many pictures; answers come in the order of the pictures, as their batches are ready.

        Args:
            pictures: Any iterable, also an endless one: only a few batches are read ahead. Arrays are read when
                their batch is full, so a camera must not use one buffer for several of them.
            batch_size: Pictures that go through the model at once.
            workers: Threads; each decodes and classifies a batch of its own.
            errors: ``raise`` stops at a picture that cannot be read; ``yield`` gives the
                :class:`PictureError` in its place and goes on. Its text names the path, where there is one.

        Raises:
            PictureError: with ``errors="raise"``, at the position of the unreadable picture.
            InputError: an argument makes no sense, or a picture is none.
            ModelError: ONNX Runtime failed, for example for want of memory.
        """
        if isinstance(pictures, (str, bytes, os.PathLike)):
            raise InputError("predict_many takes several pictures: for one, call predict")
        if errors not in ("raise", "yield"):
            raise InputError(f"errors must be 'raise' or 'yield', not {errors!r}")
        for answer in self.answers(pictures, batch_size=batch_size, workers=workers):
            if answer.error is None:
                yield answer.prediction
            elif errors == "yield":
                yield _named(answer.error, answer.path)
            else:
                raise _named(answer.error, answer.path) from answer.error.__cause__

    def answers(
        self, pictures: Iterable[Picture], *, batch_size: int = BATCH_SIZE, workers: int = 1
    ) -> Generator[Answer, None, None]:
        """As :meth:`predict_many`, with errors and times.

        A worker decodes a whole batch and runs the model on it, one call on its own thread: on a processor that is
        faster than one session with several threads.

        Raises:
            InputError: ``batch_size`` or ``workers`` is less than 1, or a picture is none.
        """
        if batch_size < 1 or workers < 1:
            raise InputError("the batch size and the number of workers must be at least 1")
        return in_order(self._classify_batch, pictures, chunk=batch_size, workers=workers)

    def to_prediction(self, probabilities: NDArray[np.float32]) -> Prediction:
        """Name the best of one row of probabilities, shape (classes,); ties go to the lower index."""
        return self._to_predictions(probabilities[None])[0]

    def _to_predictions(self, batch: NDArray[np.float32]) -> list[Prediction]:
        orders = np.argsort(-batch, axis=1, kind="stable")[:, : self._top]
        best = batch[np.arange(len(batch))[:, None], orders]
        return [self._named_best(*row) for row in zip(orders.tolist(), best.tolist(), strict=True)]

    def _named_best(self, order: list[int], values: list[float]) -> Prediction:
        classes = self.spec.classes
        top = tuple([(classes[index], value) for index, value in zip(order, values, strict=True)])
        label, probability = top[0]
        if probability < self._threshold:
            return Prediction(UNKNOWN, None, probability, top)
        return Prediction(label, order[0], probability, top)

    def _classify_batch(self, pictures: list[Picture]) -> list[Answer]:
        decoded: list[np.ndarray | PictureError] = []
        spent: list[float] = []
        for picture in pictures:
            start = time.perf_counter()
            try:
                decoded.append(self.pixels(picture))
            except PictureError as error:
                decoded.append(error)
            spent.append(1e3 * (time.perf_counter() - start))
        good = [item for item in decoded if not isinstance(item, PictureError)]
        found: Iterator[Prediction] = iter(())
        share = 0.0
        if good:
            start = time.perf_counter()
            probabilities = self.probabilities(np.stack(good))
            share = 1e3 * (time.perf_counter() - start) / len(good)
            found = iter(self._to_predictions(probabilities))
        return [
            Answer(None, item, 0.0, decoding, _path(picture))
            if isinstance(item, PictureError)
            else Answer(next(found), None, share, decoding + share, _path(picture))
            for picture, item, decoding in zip(pictures, decoded, spent, strict=True)
        ]


def _path(picture: Picture) -> str | os.PathLike[str] | None:
    return picture if isinstance(picture, (str, os.PathLike)) else None


def _named(error: PictureError, path: str | os.PathLike[str] | None) -> PictureError:
    return error if path is None else PictureError(f"{printable(path)}: {error}")
