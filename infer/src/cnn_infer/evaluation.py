"""Classify folders of pictures: a row for each picture, and a report of accuracy and speed."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_infer.answers import Answer
from cnn_infer.arguments import check_count
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.drift import Drift, validation_of
from cnn_infer.paths.find import Found, find_below
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.paths.skipped import Skipped, no_pictures
from cnn_infer.prediction import Prediction
from cnn_infer.stream import Workers
from cnn_infer.system import machine
from cnn_infer.tally import Tally

if TYPE_CHECKING:
    from cnn_infer.highlights import Highlights
    from cnn_infer.paths.truth import Truth


class Row(NamedTuple):
    """The result for one picture.

    Attributes:
        path: The picture's path, as printable text.
        prediction: The prediction; None if the picture could not be read.
        error: Why the picture could not be read, as one line; None if there is a prediction.
    """

    path: str
    prediction: Prediction | None
    error: str | None


@dataclass(frozen=True)
class Report:
    """Accuracy and speed of a run over pictures. ``to_json`` writes exactly these fields.

    A picture is *labelled* if it can be read and a folder on its path has the name of a class; see :func:`evaluate`.
    The metrics from ``accuracy`` to ``confusion`` count labelled pictures and are None if there are none.

    Attributes:
        images: Number of picture files.
        errors: Number of files that could not be read. No other figure except ``images`` includes them.
        labelled: Number of labelled pictures.
        accuracy: Share of the labelled pictures that are classified correctly, 0 to 1; ``unknown`` is not correct.
        coverage: Share of the labelled pictures whose label is a class, neither ``unknown`` nor ``stranger``, 0 to 1.
        macro_f1: Mean F1 over the classes that occur as a true or a predicted class, 0 to 1.
        weighted_f1: Mean F1 over the classes, weighted by their number of pictures, 0 to 1.
        per_class: For each class ``precision``, ``recall``, ``f1``, ``support`` (labelled pictures) and ``unknown``
            (those of them whose label is ``unknown`` or ``stranger``).
        confusion: Number of pictures by true class (row) and predicted class (column), in the model's order.
        unknown_folders: Number of readable pictures without a label in each folder; empty with ``labels=False`` and
            with ``truth``.
        truth: Of a labels file: ``file``, ``pictures`` (with a label in it), and the number of readable pictures
            ``without_row``, of readable pictures by label that is no class (``other_labels``), and of labels
            ``without_picture``. None without one.
        missing_classes: The classes without a labelled picture; empty if none is labelled.
        skipped: Number of other files and of links to folders in the searched folders, by kind: an extension such as
            ``.txt``, ``no extension``, ``link to a folder``. Hidden files and those of the system are not counted.
        calibration: How well the top probability says how often the model is right, on the labelled pictures and
            whatever the threshold: ``images``, ``ece`` (expected calibration error, 0 to 1), ``brier`` (Brier score, 0
            to 2) and ``bins``; see :meth:`cnn_infer.calibration.Calibration.results`. None without labels.
        guarantee: With the threshold ``certified``: the ``promise`` of the model file, and what these pictures show:
            ``coverage`` (share of the readable pictures that are answered), ``labelled`` (answered pictures with a
            label), ``wrong``, ``error``, its exact 95% ``interval``, and the ``verdict``: ``held`` if the interval is
            below the promised error, ``broken`` if it is above, else ``too few pictures to tell``. The last four are
            None without labels. None with any other threshold.
        strangers: ``images``, the number of pictures that are nothing like those of training, and ``share``, that of
            the readable pictures; the ``threshold`` of the model file, and the false alarm ``rate`` that it was chosen
            for. None if the classifier was not asked for strangers.
        drift: Comparison of the top probabilities with those of the validation pictures: are these pictures like those
            of training? None if the model file does not have them (older exports), or if no picture can be read.
        latency_ms: Milliseconds for each readable picture: ``model`` (its share of the run of its batch) and
            ``total`` (with reading, decoding and resizing), each as ``p50``, ``p90``, ``p99``, ``mean`` and ``n``.
        images_per_second: Readable pictures divided by the wall time from the first picture to the last.
        provider: The ONNX Runtime execution provider.
        threads: Number of worker threads; of those that worked, if the system did not start as many as asked for.
        batch_size: Most pictures in one run of the model.
        tuned: The measurements that chose ``threads`` and ``batch_size``, as text; None if they were not measured.
        model: The path or URL of the model as it was given, without credentials.
        precision: ``fp32``, ``fp16`` or ``int8``.
        machine: The processor and operating system.
    """

    images: int
    errors: int
    labelled: int
    accuracy: float | None
    coverage: float | None
    macro_f1: float | None
    weighted_f1: float | None
    per_class: dict[str, dict[str, float]] | None
    confusion: list[list[int]] | None
    unknown_folders: dict[str, int]
    truth: dict[str, Any] | None
    missing_classes: list[str]
    skipped: dict[str, int]
    calibration: dict[str, Any] | None
    guarantee: dict[str, Any] | None
    strangers: dict[str, Any] | None
    drift: Drift | None
    latency_ms: dict[str, dict[str, float]]
    images_per_second: float
    provider: str
    threads: int
    batch_size: int
    tuned: str | None
    model: str
    precision: str
    machine: str

    def to_json(self) -> str:
        """Return the report as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


def evaluate(
    classifier: Classifier,
    paths: Iterable[str | os.PathLike[str] | Listed],
    *,
    labels: bool = True,
    truth: str | os.PathLike[str] | Truth | None = None,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
    follow_symlinks: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Classify all pictures under ``paths`` and report accuracy and speed.

    A picture's true class comes from a folder name. For a picture below a folder in ``paths``, the folders from there
    down to the picture are compared with the class names, and the first match counts: below ``photos``,
    ``photos/cat/kitchen/1.jpg`` is a cat, as in training. If none matches, the name of the folder in ``paths`` itself
    is compared. For a file in ``paths``, the name of its folder is compared.

    Args:
        classifier: The model. On a CPU a classifier with ``threads=1``, the default, is fastest here.
        paths: Files, folders, patterns and URLs, as :func:`cnn_infer.find_pictures` takes them.
        labels: Whether there are true classes.
        truth: A labels file that gives the true classes in place of folder names: CSV or JSON lines with the columns
            ``file_name`` and ``label``, or a :class:`cnn_infer.Truth` of other columns.
        batch_size: Most pictures in one run of the model, at least 1.
        threads: Worker threads, at least 1; None for one for each processor that this process may use.
        follow_symlinks: Whether symbolic links to folders are followed.
        on_row: Called with the :class:`Row` of each picture, in the order of the files.

    Raises:
        InputError: a path does not exist, a folder cannot be listed, there are no pictures, ``batch_size`` or
            ``threads`` is less than 1, or the labels file is damaged or has no class of the model.
        ModelError: ONNX Runtime failed, for example because it ran out of memory.
    """
    run = Evaluation(
        classifier,
        labels=labels,
        truth=_truth(truth),
        batch_size=batch_size,
        threads=threads,
        follow_symlinks=follow_symlinks,
    )
    for row in run.rows(paths):
        if on_row is not None:
            on_row(row)
    return run.report()


def _truth(truth: str | os.PathLike[str] | Truth | None) -> Truth | None:
    from cnn_infer.paths.truth import Truth  # imported late: few runs need it

    return truth if truth is None or isinstance(truth, Truth) else Truth(truth)


class Evaluation:
    """A run over pictures, row by row: it can be interrupted and resumed. :func:`evaluate` is made of it.

    Args:
        classifier, labels, truth, batch_size, threads, follow_symlinks: As for :func:`evaluate`.
        tuned: The text for :attr:`Report.tuned`.
        counted: The result of :meth:`counted` of the run that this one resumes; None for a new run.
        page: Whether to keep what a page shows of single pictures, in :attr:`highlights`.

    Raises:
        InputError: ``threads`` is less than 1, ``truth`` has no class of the model, or ``counted`` is damaged or has
            nothing for a page.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        labels: bool = True,
        truth: Truth | None = None,
        batch_size: int = BATCH_SIZE,
        threads: int | None = None,
        follow_symlinks: bool = False,
        tuned: str | None = None,
        counted: Any = None,
        page: bool = False,
    ) -> None:
        self._classifier = classifier
        self._labels = labels
        self._batch_size = batch_size
        self._threads = machine.usable_cpus() if threads is None else check_count("threads", threads)
        self._used = Workers(self._threads)
        self._follow_symlinks = follow_symlinks
        self._tuned = tuned
        self._skipped = Skipped()
        validation = validation_of(classifier.spec.details)
        self._tally = Tally(classifier.spec.classes, validation, truth, classifier.guarantee, classifier.stranger_rule)
        if counted is not None:
            self._tally.restore(counted)
        self.highlights: Highlights | None = None
        if page:
            from cnn_infer.highlights import Highlights  # imported late: few runs need it

            self.highlights = Highlights() if counted is None else Highlights.restored(counted.get("page"))
        self._seconds = 0.0
        self._answered = 0

    def rows(self, paths: Iterable[str | os.PathLike[str] | Listed], skip: int = 0) -> Generator[Row, None, None]:
        """Yield a row for each picture but the first ``skip``, in order. The errors are those of :func:`evaluate`."""
        everything = find_below(paths, follow_symlinks=self._follow_symlinks, skipped=self._skipped)
        yield from self.rows_of(islice(everything, skip, None))
        if not self._tally.images:
            raise no_pictures(self._skipped.counts)

    def rows_of(self, pictures: Iterable[Found]) -> Generator[Row, None, None]:
        """Yield a row for each of these pictures, in order, as :meth:`rows` does."""
        waiting: deque[Found] = deque()

        def remembered() -> Iterator[str]:
            for found in pictures:
                waiting.append(found)
                yield found.path

        # the first run of a session includes its set-up, so it must not be the first picture's
        self._classifier.probabilities(np.zeros((1, *self._classifier.spec.shape), np.uint8))
        start = time.perf_counter()
        answers = self._classifier.answers(
            remembered(), batch_size=self._batch_size, workers=self._threads, used=self._used
        )
        with closing(answers):
            for answer in answers:
                found = waiting.popleft()
                self._count(found, answer)
                self._answered += answer.prediction is not None
                self._seconds = time.perf_counter() - start
                yield Row(printable(found.path), answer.prediction, str(answer.error) if answer.error else None)

    def _count(self, found: Found, answer: Answer) -> None:
        truth = self._tally.add(found if self._labels else None, answer)
        if self.highlights is None:
            return
        if answer.prediction is None:
            self.highlights.add_unreadable(found.path, str(answer.error))
        else:
            name = None if truth is None else self._classifier.spec.classes[truth]
            self.highlights.add(found.path, answer.prediction, name)

    def counted(self, *, times: bool = False) -> dict[str, Any]:
        """Return the counts up to the last row as plain JSON; ``times`` adds those of the pictures."""
        counts = self._tally.counted(times=times)
        return counts if self.highlights is None else {**counts, "page": self.highlights.counted()}

    def report(self) -> Report:
        """Return the report of all rows so far. Times do not include the run that was resumed."""
        return Report(
            **self._tally.results(),
            skipped=dict(self._skipped.counts),
            images_per_second=self._answered / self._seconds if self._seconds else 0.0,
            provider=self._classifier.provider,
            threads=self._used.threads,
            batch_size=self._batch_size,
            tuned=self._tuned,
            model=self._classifier.model.name,
            precision=self._classifier.spec.precision,
            machine=machine.description(),
        )
