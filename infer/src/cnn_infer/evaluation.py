"""A folder of pictures through a model: a row for each, and a report of how well and how fast."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from cnn_infer.classifier import BATCH_SIZE, Answer, Classifier, Prediction
from cnn_infer.errors import InputError
from cnn_infer.histogram import Histogram
from cnn_infer.metrics import summarise
from cnn_infer.paths.find import Found, find_below, folders_of
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import folder_name, parent_name, printable
from cnn_infer.system import machine


class Row(NamedTuple):
    """One picture of a folder run: its path as text and either a prediction or the reason there is none."""

    path: str
    prediction: Prediction | None
    error: str | None


@dataclass(frozen=True)
class Report:
    """How a folder run went. ``to_json`` writes exactly these fields.

    Attributes:
        images: Files seen.
        errors: Files that could not be read; they count in no other figure.
        labelled: Readable files with a folder named as one of the model's classes; see :func:`evaluate`.
        accuracy: Share of the labelled ones that were classified right, 0 to 1; None without labels, as all
            metrics are.
        coverage: Share of the labelled ones that were not ``unknown``.
        macro_f1: Mean F1 of the classes that occur.
        weighted_f1: F1 weighted by the number of pictures of a class.
        per_class: Precision, recall, F1, support and unknown of each class.
        confusion: Rows are true classes, columns predicted ones, in the model's order.
        unknown_folders: Folders of the other readable files, with the number of pictures in each.
        missing_classes: Classes of the model without a picture here, where there are labels.
        latency_ms: ``model`` (the picture's share of its batch) and ``total`` (with reading, decoding and
            resizing), each with ``p50``, ``p90``, ``p99``, ``mean`` and ``n``, in milliseconds a picture.
        images_per_second: Readable files by the wall clock, from the first file to the last.
        provider: ONNX Runtime's execution provider.
        threads: Threads that worked at the same time.
        batch_size: Pictures to a run of the model.
        tuned: What was measured to choose these two, in words; None where nothing was.
        model: The model's file.
        precision: ``fp32`` or ``int8``.
        machine: The processor and system this was measured on.
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
    missing_classes: list[str]
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
        """The report as one JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)


def evaluate(
    classifier: Classifier,
    paths: Iterable[str | os.PathLike[str] | Listed],
    *,
    labels: bool = True,
    batch_size: int = BATCH_SIZE,
    threads: int | None = None,
    follow_symlinks: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> Report:
    """Classify all pictures under ``paths`` and report.

    Args:
        classifier: The model. For the best speed on a CPU open it with ``threads=1`` (the default).
        paths: Files and folders; see :func:`cnn_infer.find_pictures`.
        labels: Take folders that are named as classes for the truth, by name: below a folder in ``paths`` the first
            on the way down to the picture, so that ``cat/kitchen/1.jpg`` is a cat as in training, else that folder
            itself; of a file in ``paths`` the folder that it lies in.
        batch_size: Pictures to a run of the model.
        threads: Threads; None takes every processor this process may use.
        follow_symlinks: Walk into symbolic links to folders.
        on_row: Called with each picture's row, in the order of the files.

    Raises:
        InputError: a path does not exist, a folder cannot be listed, there is no picture at all, or ``batch_size`` or
            ``threads`` is less than 1.
        ModelError: ONNX Runtime failed, for example for want of memory.
    """
    run = Evaluation(classifier, labels=labels, batch_size=batch_size, threads=threads, follow_symlinks=follow_symlinks)
    for row in run.rows(paths):
        if on_row is not None:
            on_row(row)
    return run.report()


class Evaluation:
    """A folder run that can be watched, interrupted and gone on with: what :func:`evaluate` does, step by step.

    Args:
        classifier: As for :func:`evaluate`, as are the others.
        tuned: For the report: what was measured to choose ``batch_size`` and ``threads``.
        counted: What :meth:`counted` gave of a run that this one goes on with; None for a run from the start.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        labels: bool = True,
        batch_size: int = BATCH_SIZE,
        threads: int | None = None,
        follow_symlinks: bool = False,
        tuned: str | None = None,
        counted: Any = None,
    ) -> None:
        self._classifier = classifier
        self._labels = labels
        self._batch_size = batch_size
        self._threads = machine.usable_cpus() if threads is None else threads
        self._follow_symlinks = follow_symlinks
        self._tuned = tuned
        self._tally = _Tally(classifier.spec.classes)
        if counted is not None:
            self._tally.restore(counted)
        self._seconds = 0.0
        self._answered = 0

    def rows(self, paths: Iterable[str | os.PathLike[str] | Listed], skip: int = 0) -> Generator[Row, None, None]:
        """A row for each picture, in order, after passing over the first ``skip``; raises as :func:`evaluate`."""
        waiting: deque[Found] = deque()

        def remembered() -> Iterator[str]:
            for found in islice(find_below(paths, follow_symlinks=self._follow_symlinks), skip, None):
                waiting.append(found)
                yield found.path

        # a session's first run sets it up: it is no picture's latency
        self._classifier.probabilities(np.zeros((1, *self._classifier.spec.shape), np.uint8))
        start = time.perf_counter()
        answers = self._classifier.answers(remembered(), batch_size=self._batch_size, workers=self._threads)
        with closing(answers):
            for answer in answers:
                found = waiting.popleft()
                self._tally.add(found if self._labels else None, answer)
                self._answered += answer.prediction is not None
                self._seconds = time.perf_counter() - start
                yield Row(printable(found.path), answer.prediction, str(answer.error) if answer.error else None)
        if not self._tally.images:
            raise InputError(
                "no pictures found: expected files or folders with JPEG, PNG, WebP, BMP, GIF or TIFF files"
            )

    def counted(self) -> dict[str, Any]:
        """What was counted up to the last row, but for times, as JSON has it."""
        return self._tally.counted()

    def report(self) -> Report:
        """Of all rows so far, also of those before this run went on; times are of this run alone."""
        details = self._classifier.spec.details
        return self._tally.report(
            images_per_second=self._answered / self._seconds if self._seconds else 0.0,
            provider=self._classifier.provider,
            threads=self._threads,
            batch_size=self._batch_size,
            tuned=self._tuned,
            model=self._classifier.model.name,
            precision=str(details.get("precision", "fp32")),
            machine=machine.description(),
        )


class _Tally:
    """What a run adds up, picture by picture."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.index = {name: index for index, name in enumerate(classes)}
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        self.unknown = np.zeros(len(classes), np.int64)
        self.folders: Counter[str] = Counter()
        self.images = self.errors = 0
        self._folder: tuple[str, str | bool] | None = None
        self._folder_truth: int | None = None
        self.model_ms = Histogram()
        self.total_ms = Histogram()

    def add(self, found: Found | None, answer: Answer) -> None:
        self.images += 1
        if answer.prediction is None:
            self.errors += 1
            return
        truth = None if found is None else self._truth(found)
        if found is not None and truth is None:
            self.folders[printable(parent_name(found.path))] += 1
        self.model_ms.add(answer.model_ms)
        self.total_ms.add(answer.total_ms)
        if truth is not None:
            if answer.prediction.index is None:
                self.unknown[truth] += 1
            else:
                self.confusion[truth, answer.prediction.index] += 1

    def counted(self) -> dict[str, Any]:
        pairs = zip(*np.nonzero(self.confusion), strict=True)
        return {
            "images": self.images,
            "errors": self.errors,
            "confusion": [[int(true), int(said), int(self.confusion[true, said])] for true, said in pairs],
            "unknown": self.unknown.tolist(),
            "folders": dict(self.folders),
        }

    def restore(self, counted: Any) -> None:
        """Take over what an earlier run counted.

        Raises:
            InputError: it is not what :meth:`counted` gives.
        """
        try:
            self.images, self.errors = int(counted["images"]), int(counted["errors"])
            for true, said, count in counted["confusion"]:
                self.confusion[true, said] = count
            self.unknown[:] = counted["unknown"]
            self.folders.update(counted["folders"])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise InputError(f"what was counted so far is damaged ({error}): begin anew without --resume") from error

    def _truth(self, found: Found) -> int | None:
        folder = os.path.dirname(found.path), found.path == found.given or found.given
        if folder != self._folder:  # pictures of a folder come one after the other
            self._folder, self._folder_truth = folder, self._looked_up(found)
        return self._folder_truth

    def _looked_up(self, found: Found) -> int | None:
        # training calls a class by a name that every system can give a folder; this one may have another
        known = (self.index.get(name, self.index.get(folder_name(name))) for name in folders_of(found))
        return next((index for index in known if index is not None), None)

    def report(self, **facts: Any) -> Report:
        nothing = dict.fromkeys(("accuracy", "coverage", "macro_f1", "weighted_f1", "per_class", "confusion"))
        support = self.confusion.sum(axis=1) + self.unknown
        labelled = int(support.sum())
        metrics = summarise(self.confusion, self.unknown, self.classes) if labelled else {"labelled": 0, **nothing}
        missing = [name for name, count in zip(self.classes, support, strict=True) if not count] if labelled else []
        return Report(
            images=self.images,
            errors=self.errors,
            unknown_folders=dict(self.folders) if labelled else {},
            missing_classes=missing,
            latency_ms={"model": self.model_ms.summary(), "total": self.total_ms.summary()},
            **metrics,
            **facts,
        )
