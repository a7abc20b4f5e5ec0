"""The counts of a run over pictures: labels, errors, top probabilities and times."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np

from cnn_infer.classifier import Answer
from cnn_infer.drift import TopProbabilities, compare
from cnn_infer.errors import InputError
from cnn_infer.histogram import Histogram
from cnn_infer.metrics import summarise
from cnn_infer.paths.find import Found, folders_of
from cnn_infer.paths.naming import composed, folder_name, parent_name, printable


class Tally:
    """The counts of a run.

    Args:
        classes: The names of the classes, in the model's order. Folders are compared with them in Unicode's composed
            form, because macOS may write names in the other form.
        validation: The top probabilities on the validation pictures; None if they are unknown.
    """

    def __init__(self, classes: tuple[str, ...], validation: TopProbabilities | None = None) -> None:
        self.classes = classes
        self.index = {composed(name): index for index, name in enumerate(classes)}
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        self.unknown = np.zeros(len(classes), np.int64)
        self.folders: Counter[str] = Counter()
        self.images = self.errors = 0
        self._folder: tuple[str, str | bool] | None = None
        self._folder_class: int | None = None
        self.validation = validation
        self.top = None if validation is None else TopProbabilities(validation.edges)
        self.model_ms = Histogram()
        self.total_ms = Histogram()

    def add(self, found: Found | None, answer: Answer) -> None:
        """Count one picture.

        Args:
            found: The file, whose folders may give the true class; None without labels.
            answer: The answer of the classifier.
        """
        self.images += 1
        if answer.prediction is None:
            self.errors += 1
            return
        truth = None if found is None else self._truth(found)
        if found is not None and truth is None:
            self.folders[printable(parent_name(found.path))] += 1
        if self.top is not None:
            self.top.add(answer.prediction.probability)
        self.model_ms.add(answer.model_ms)
        self.total_ms.add(answer.total_ms)
        if truth is not None:
            if answer.prediction.index is None:
                self.unknown[truth] += 1
            else:
                self.confusion[truth, answer.prediction.index] += 1

    def counted(self) -> dict[str, Any]:
        """Return the counts, without times, as plain JSON."""
        pairs = zip(*np.nonzero(self.confusion), strict=True)
        return {
            "images": self.images,
            "errors": self.errors,
            "confusion": [[int(true), int(found), int(self.confusion[true, found])] for true, found in pairs],
            "unknown": self.unknown.tolist(),
            "folders": dict(self.folders),
            "top": None if self.top is None else list(self.top.counts),
        }

    def restore(self, counted: Any) -> None:
        """Continue from the counts of an earlier run.

        Raises:
            InputError: ``counted`` is not a result of :meth:`counted`.
        """
        try:
            self.images, self.errors = int(counted["images"]), int(counted["errors"])
            for true, found, count in counted["confusion"]:
                self.confusion[true, found] = count
            self.unknown[:] = counted["unknown"]
            self.folders.update(counted["folders"])
            counts = counted.get("top")  # an older version did not count them
            if self.top is not None:
                self.top = None if counts is None else TopProbabilities(self.top.edges, [int(n) for n in counts])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise InputError(f"the counts to resume from are damaged ({error}): start without --resume") from error

    def _truth(self, found: Found) -> int | None:
        folder = os.path.dirname(found.path), found.path == found.given or found.given
        if folder != self._folder:  # pictures of one folder are adjacent: one lookup for all of them
            self._folder, self._folder_class = folder, self._class_of(found)
        return self._folder_class

    def _class_of(self, found: Found) -> int | None:
        # training rewrites class names so that they are valid folder names on every system: compare both forms
        known = (self.index.get(composed(name), self.index.get(folder_name(name))) for name in folders_of(found))
        return next((index for index in known if index is not None), None)

    def results(self) -> dict[str, Any]:
        """Return the fields of :class:`cnn_infer.Report` that are counts, metrics or times of a picture."""
        no_metrics = dict.fromkeys(("accuracy", "coverage", "macro_f1", "weighted_f1", "per_class", "confusion"))
        support = self.confusion.sum(axis=1) + self.unknown
        labelled = int(support.sum())
        metrics = summarise(self.confusion, self.unknown, self.classes) if labelled else {"labelled": 0, **no_metrics}
        missing = [name for name, count in zip(self.classes, support, strict=True) if not count] if labelled else []
        return {
            "images": self.images,
            "errors": self.errors,
            "unknown_folders": dict(self.folders),
            "missing_classes": missing,
            "drift": None if self.validation is None or self.top is None else compare(self.validation, self.top),
            "latency_ms": {"model": self.model_ms.summary(), "total": self.total_ms.summary()},
            **metrics,
        }
