"""The Python API for embedding: :class:`Classifier` turns pictures into predictions."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from cnn_infer.answers import Answer, answer_batch, predictions
from cnn_infer.arguments import check_count
from cnn_infer.errors import InputError, ModelError, PictureError
from cnn_infer.model import PROBABILITIES, Model, open_model
from cnn_infer.optional_outputs import EVIDENCE, STRANGENESS
from cnn_infer.paths.naming import located, path_of
from cnn_infer.pixels.convert import MAX_PIXELS, to_pixels
from cnn_infer.pixels.read import MAX_BYTES, read_in_order
from cnn_infer.prediction import DecisionRule, Prediction
from cnn_infer.providers.devices import CPU
from cnn_infer.stream import PARTS, Workers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.explanation import Explanation
    from cnn_infer.guarantee import Guarantee, Threshold
    from cnn_infer.pixels.convert import Picture
    from cnn_infer.spec import Spec
    from cnn_infer.strangers import StrangerRule

BATCH_SIZE = 32
"""Default number of pictures in one run of the model."""

_NOT_ASKED = "the classifier was not asked for strangers: create it with Classifier(model, strangers=True)"


class Classifier:
    """An exported model that classifies pictures.

    Several threads can share one classifier. A pickled one carries the model and opens it again on the same device.

    Args:
        model: The path, the URL or the bytes of an ``.onnx`` file that cnn-export wrote, or an open
            :class:`~cnn_infer.Model`. For an open model ``device`` and ``threads`` have no effect.
        device: ``auto`` (CUDA if it works, else the CPU), ``cpu``, ``cuda`` or another of
            :data:`cnn_infer.providers.devices.DEVICES`.
        threads: CPU threads for each run of the model, at least 1. To use all cores for many pictures, keep 1 here
            and pass ``workers`` to :meth:`predict_many`: that is faster for small models.
        top: Number of classes in :attr:`Prediction.top`, at least 1.
        threshold: The label is ``unknown`` if the highest probability is below this value, 0 to 1. ``certified`` for
            the threshold that cnn-export proved.
        max_pixels: Pictures with more pixels are refused before they are decoded.
        max_bytes: Files with more bytes are refused before they are read.
        strangers: Whether pictures that are nothing like those of training get the label ``stranger``. Only for a model
            that was exported with ``cnn-export --strangers``.
        device_options: Options of the device, as :func:`~cnn_infer.open_model` takes them.

    Attributes:
        model: The open model.
        spec: Its specification, with the classes and the input size.
        provider: The ONNX Runtime execution provider that runs it.
        guarantee: What was proven of the threshold; None unless it is ``certified``.
        stranger_rule: When a picture is a stranger; None without ``strangers``.

    Raises:
        InputError: ``top``, ``threshold`` or ``device`` is invalid, or the model cannot tell strangers.
        ModelError: the file is missing, damaged, or was not written by cnn-export.
        DeviceError: the device is not available. There is no silent fallback to the CPU.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Model,
        *,
        device: str = "auto",
        threads: int = 1,
        top: int = 5,
        threshold: Threshold = 0.0,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        strangers: bool = False,
        device_options: Mapping[str, str] | None = None,
    ) -> None:
        top = check_count("top", top)
        if threshold != 0:
            from cnn_infer.guarantee import check_threshold, resolve_threshold  # a start without it is faster

            check_threshold(threshold)
        outputs = [STRANGENESS] if strangers else []
        if not isinstance(model, Model):
            model = open_model(model, device=device, threads=threads, outputs=outputs, device_options=device_options)
        elif not set(outputs) <= set(model.outputs):
            model = model.with_outputs([*model.outputs, *outputs])
        self.model = model
        self.spec: Spec = self.model.spec
        self.provider: str = self.model.provider
        self._shape = self.spec.shape
        found = resolve_threshold(threshold, self.spec, self.model.name) if threshold != 0 else (0.0, None)
        self.guarantee: Guarantee | None = found[1]
        self.stranger_rule: StrangerRule | None = None
        if strangers:
            from cnn_infer.strangers import required_rule

            self.stranger_rule = required_rule(self.spec, model.name)
        self._decision = DecisionRule(self.spec.classes, top, found[0], self.stranger_rule)
        self._outputs = [PROBABILITIES, *outputs]
        self._max_pixels, self._max_bytes = max_pixels, max_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: the session is freed together with the object."""

    def pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """Convert a picture to the model's input: uint8, shape (height, width, channels) as in ``spec.shape``.

        The arguments and errors are those of :meth:`predict`.
        """
        return to_pixels(picture, self.spec, max_pixels=self._max_pixels, max_bytes=self._max_bytes)

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model on a batch that already has the size of its input, for example frames of a camera.

        Args:
            batch: uint8, shape (n, height, width, channels) with n of at least 1; see ``spec.shape``.

        Returns:
            float32, shape (n, classes). Each row sums to 1.

        Raises:
            InputError: the batch has another type or shape.
            ModelError: ONNX Runtime failed, for example because it ran out of memory.
        """
        return self._run(batch)[0]

    def probabilities_and_strangeness(
        self, batch: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return :meth:`probabilities`, and how far each picture is from those of training: float32, shape (n,).

        Raises:
            InputError: the classifier was not asked for ``strangers``, or the batch has another type or shape.
            ModelError: as for :meth:`probabilities`.
        """
        probabilities, strangeness = self._run(batch)
        if strangeness is None:
            raise InputError(_NOT_ASKED)
        return probabilities, strangeness

    def _run(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the probabilities, and ``strangeness``, float32 (n,), if the classifier was asked for strangers."""
        if not isinstance(batch, np.ndarray):
            raise InputError(f"expected a NumPy array, not {type(batch).__name__}")
        if batch.dtype != np.uint8 or batch.shape[1:] != self._shape or not len(batch):
            raise InputError(
                f"expected uint8 of shape (n, {', '.join(map(str, self._shape))}), not {batch.dtype} {batch.shape}"
            )
        try:
            found = self.model.run(self._outputs, batch)
        except Exception as error:
            count = f"{len(batch)} picture{'s' * (len(batch) > 1)}"
            raise ModelError(f"the model failed on {count}: {' '.join(str(error).split())}") from error
        return found[0], found[1] if len(found) > 1 else None

    def predict(self, picture: Picture) -> Prediction:
        """Classify one picture.

        Args:
            picture: A path, the bytes of a picture file, a PIL image, or a uint8 array: (height, width, 3) RGB or
                (height, width) grey. Pass a path or bytes rather than a PIL image: see :func:`cnn_infer.to_pixels`.

        Raises:
            PictureError: the picture cannot be read, is damaged, or is too large.
            InputError: the argument has another type, or the array has another shape or type.
            ModelError: ONNX Runtime failed, for example because it ran out of memory.
        """
        return self._decision.predictions(*self._run(self._pixels(picture)[None]))[0]

    def explain(self, picture: Picture) -> Explanation:
        """Classify one picture, and return which cells of the last feature map speak for and against the answer.

        The model must have been exported with ``cnn-export --evidence``. The arguments and errors are those of
        :meth:`predict`.

        Raises:
            InputError: the model does not have the output ``evidence``.
        """
        from cnn_infer.explanation import explain  # most runs explain nothing

        model, pixels = self._explaining, self._pixels(picture)
        return explain(model, pixels, self._decision.predictions(*self._run(pixels[None]))[0])

    @cached_property
    def _explaining(self) -> Model:
        """The model in a second session, which computes the evidence; others are as fast as without that output."""
        return self.model.with_outputs([EVIDENCE])

    def _pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """Return :meth:`pixels`; the text of an error starts with the path, if the picture was passed as a path."""
        try:
            return self.pixels(picture)
        except PictureError as error:
            raise located(error, path_of(picture)) from error.__cause__

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
        """Classify many pictures. Predictions come in the order of the pictures.

        Invalid arguments are refused by the call itself; pictures are read when the iterator is used.

        Args:
            pictures: Any iterable of pictures that :meth:`predict` takes, also an endless one: at most
                ``2 * workers + 1`` batches are in memory. An array is read when its batch is full, so a camera must
                not reuse one buffer for several frames.
            batch_size: Pictures in one run of the model, at least 1. The first and last runs of several threads on a
                CPU have fewer, so that all threads have work.
            workers: Threads, at least 1. Each decodes and classifies a batch of its own.
            errors: What happens at a picture that cannot be read. ``raise`` raises its :class:`PictureError` and ends
                the iterator. ``yield`` yields the :class:`PictureError` in place of the prediction and continues.
                The error's text starts with the picture's path, if it was passed as a path.

        Raises:
            InputError: at the call, if an argument is invalid; from the iterator, if an item is not a picture.
            PictureError: from the iterator, with ``errors="raise"``.
            ModelError: from the iterator, if ONNX Runtime failed, for example because it ran out of memory.
        """
        if errors not in ("raise", "yield"):
            raise InputError(f"errors must be 'raise' or 'yield', not {errors!r}")
        return predictions(self.answers(pictures, batch_size=batch_size, workers=workers), errors)

    def answers(
        self,
        pictures: Iterable[Picture],
        *,
        batch_size: int = BATCH_SIZE,
        workers: int = 1,
        used: Workers | None = None,
    ) -> Generator[Answer, None, None]:
        """Classify many pictures as :meth:`predict_many` does, with errors and times; ``used`` notes the threads."""
        batch_size, workers = check_count("batch_size", batch_size), check_count("workers", workers)
        is_iterable = hasattr(pictures, "__iter__") or hasattr(pictures, "__getitem__")
        if not is_iterable or isinstance(pictures, (str, bytes, os.PathLike)):
            raise InputError("predict_many takes an iterable of pictures: for one picture, call predict")
        # other devices may prepare the model for each size of batch anew
        parts = PARTS if self.provider == CPU and workers > 1 else 1
        return read_in_order(
            self._answer, pictures, self._max_bytes, chunk=batch_size, workers=workers, parts=parts, used=used
        )

    def to_prediction(self, probabilities: NDArray[np.float32], strangeness: float | None = None) -> Prediction:
        """Turn a row of :meth:`probabilities` into a prediction; ties go to the lower index.

        Args:
            probabilities: float32, shape (classes,).
            strangeness: The picture's, as :meth:`probabilities_and_strangeness` returns it, for a classifier that was
                asked for ``strangers``; None for any other.

        Raises:
            InputError: ``strangeness`` is missing, or the classifier was not asked for ``strangers``.
        """
        if strangeness is not None and self.stranger_rule is None:
            raise InputError(_NOT_ASKED)
        if strangeness is None and self.stranger_rule is not None:
            raise InputError("to tell strangers, pass strangeness too: probabilities_and_strangeness returns it")
        column = None if strangeness is None else np.array([strangeness])
        return self._decision.predictions(probabilities[None], column)[0]

    def _answer(self, pictures: list[Picture]) -> list[Answer]:
        return answer_batch(pictures, self.pixels, self._run, self._decision)
