"""The counts of a run over pictures: labels, errors, top probabilities and times."""

from __future__ import annotations

import os
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_infer.drift import TopProbabilities, compare
from cnn_infer.errors import InputError
from cnn_infer.histogram import Histogram
from cnn_infer.paths.find import Found, folders_of
from cnn_infer.paths.naming import composed, folder_name, parent_name, printable

if TYPE_CHECKING:
    from cnn_infer.answers import Answer
    from cnn_infer.calibration import Calibration
    from cnn_infer.guarantee import Guarantee
    from cnn_infer.paths.truth import Truth
    from cnn_infer.strangers import StrangerRule


class Tally:
    """The counts of a run.

    Args:
        classes: The names of the classes, in the model's order. Folders are compared with them in Unicode's composed
            form, because macOS may write names in the other form.
        validation: The top probabilities on the validation pictures; None if they are unknown.
        truth: The labels file that gives the true classes in place of folders; None without one.
        guarantee: What was promised of the answers; None without a promise.
        rule: When a picture is a stranger; None if that is not asked for.

    Raises:
        InputError: no label of ``truth`` is a class.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        validation: TopProbabilities | None = None,
        truth: Truth | None = None,
        guarantee: Guarantee | None = None,
        rule: StrangerRule | None = None,
    ) -> None:
        self.classes = classes
        self.index = {composed(name): index for index, name in enumerate(classes)}
        self.confusion = np.zeros((len(classes), len(classes)), np.int64)
        self.unknown = np.zeros(len(classes), np.int64)
        self.folders: Counter[str] = Counter()
        self.truth = truth
        self.other_labels: Counter[str] = Counter()
        self.without_row = self.with_row = 0
        if truth is not None and all(self._class_named(label) is None for label in truth.labels()):
            raise InputError(
                f"no label in {printable(truth.path)} is a class of the model, such as {truth.labels()[0]!r}: "
                f"the classes are {', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}"
            )
        self.images = self.errors = self.answered = self.strangers = 0
        self.rule = rule
        self.guarantee = guarantee
        self._folder: tuple[str, str | bool] | None = None
        self._folder_class: int | None = None
        self.validation = validation
        self.top = None if validation is None else TopProbabilities(validation.edges)
        self.model_ms = Histogram()
        self.total_ms = Histogram()

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration on labelled pictures."""
        from cnn_infer.calibration import Calibration  # most runs have no labels, and start faster without it

        return Calibration()

    def add(self, found: Found | None, answer: Answer) -> int | None:
        """Count one picture; return the index of its true class, or None if that is not known.

        Args:
            found: The file, whose folders may give the true class; None without labels.
            answer: The answer of the classifier.
        """
        self.images += 1
        label = None if found is None or self.truth is None else self.truth.label_of(found.path)
        self.with_row += label is not None
        if answer.prediction is None:
            self.errors += 1
            return None
        self.answered += answer.prediction.index is not None
        self.strangers += self.rule is not None and self.rule.applies(answer.prediction.strangeness)
        truth = None if found is None else self._true_class(found, label)
        if self.top is not None:
            self.top.add(answer.prediction.probability)
        self.model_ms.add(answer.model_ms)
        self.total_ms.add(answer.total_ms)
        if truth is not None:
            if answer.prediction.index is None:
                self.unknown[truth] += 1
            else:
                self.confusion[truth, answer.prediction.index] += 1
            if answer.probabilities is not None:
                self.calibration.add(answer.probabilities, truth)
        return truth

    def counted(self, *, times: bool = False) -> dict[str, Any]:
        """Return the counts as plain JSON; ``times`` adds those of the pictures."""
        pairs = zip(*np.nonzero(self.confusion), strict=True)
        return {
            "images": self.images,
            "errors": self.errors,
            "answered": self.answered,
            **({"strangers": self.strangers} if self.rule else {}),
            "calibration": self.calibration.counted(),
            "confusion": [[int(true), int(found), int(self.confusion[true, found])] for true, found in pairs],
            "unknown": self.unknown.tolist(),
            "folders": dict(self.folders),
            "truth": [self.with_row, self.without_row, dict(self.other_labels)],
            "top": None if self.top is None else list(self.top.counts),
            **({"times": [self.model_ms.counted(), self.total_ms.counted()]} if times else {}),
        }

    def restore(self, counted: Any) -> None:
        """Continue from the counts of an earlier run.

        Raises:
            InputError: ``counted`` is not a result of :meth:`counted`.
        """
        from cnn_infer.calibration import Calibration

        try:
            self.images, self.errors = int(counted["images"]), int(counted["errors"])
            self.answered = int(counted["answered"])
            self.strangers = int(counted["strangers"]) if self.rule else 0
            self.calibration = Calibration.restored(counted["calibration"])
            for true, found, count in counted["confusion"]:
                self.confusion[true, found] = count
            self.unknown[:] = counted["unknown"]
            self.folders.update(counted["folders"])
            self.with_row, self.without_row, other_labels = counted["truth"]
            self.other_labels.update(other_labels)
            top = counted["top"]
            if self.top is not None:
                self.top = TopProbabilities(self.top.edges, [int(count) for count in top])
        except (ArithmeticError, TypeError, ValueError, LookupError) as error:
            raise InputError(f"the counts to resume from are damaged ({error}): start without --resume") from error

    def merge(self, counted: Any) -> None:
        """Add the counts and times of other pictures of the same run.

        Args:
            counted: The result of :meth:`counted` with ``times``, of a tally that was made with the same arguments.

        Raises:
            InputError: it is no such result.
        """
        other = Tally(self.classes, self.validation, None, self.guarantee, self.rule)
        other.restore(counted)
        try:
            model_ms, total_ms = counted["times"]
            self.model_ms.merge(model_ms)
            self.total_ms.merge(total_ms)
        except (ArithmeticError, TypeError, ValueError, LookupError) as error:
            raise InputError(f"the times to merge are damaged ({error})") from error
        for name in ("images", "errors", "answered", "strangers", "with_row", "without_row"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.confusion += other.confusion
        self.unknown += other.unknown
        self.folders.update(other.folders)
        self.other_labels.update(other.other_labels)
        self.calibration.merge(other.calibration)
        if self.top is not None and other.top is not None:
            self.top.counts = [mine + theirs for mine, theirs in zip(self.top.counts, other.top.counts, strict=True)]

    def _true_class(self, found: Found, label: str | None) -> int | None:
        """The index of the true class, or None; a picture without one is counted by folder or label."""
        if self.truth is None:
            index = self._folder_truth(found)
            if index is None and (name := parent_name(found.path)):
                self.folders[printable(name)] += 1
            return index
        if label is None:
            self.without_row += 1
            return None
        index = self._class_named(label)
        if index is None:
            self.other_labels[label] += 1
        return index

    def _class_named(self, name: str) -> int | None:
        # training rewrites class names so that they are valid folder names on every system: compare both forms
        return self.index.get(composed(name), self.index.get(folder_name(name)))

    def _folder_truth(self, found: Found) -> int | None:
        folder = os.path.dirname(found.path), found.path == found.given or found.given
        if folder != self._folder:  # pictures of one folder are adjacent: one lookup for all of them
            self._folder, self._folder_class = folder, self._class_of(found)
        return self._folder_class

    def _class_of(self, found: Found) -> int | None:
        known = map(self._class_named, folders_of(found))
        return next((index for index in known if index is not None), None)

    def _truth_counts(self, truth: Truth) -> dict[str, Any]:
        return {
            "file": printable(truth.path),
            "pictures": len(truth),
            "without_row": self.without_row,
            "other_labels": dict(self.other_labels),
            "without_picture": max(0, len(truth) - self.with_row),
        }

    def _promise(self) -> dict[str, Any] | None:
        if self.guarantee is None:
            return None
        labelled = int(self.confusion.sum())
        wrong = labelled - int(np.trace(self.confusion))
        from cnn_infer.guarantee import observed

        return observed(self.guarantee, self.images - self.errors, self.answered, labelled, wrong)

    def results(self) -> dict[str, Any]:
        """Return the fields of :class:`cnn_infer.Report` that are counts, metrics or times of a picture."""
        no_metrics = dict.fromkeys(("accuracy", "coverage", "macro_f1", "weighted_f1", "per_class", "confusion"))
        support = self.confusion.sum(axis=1) + self.unknown
        labelled = int(support.sum())
        metrics: dict[str, Any] = {"labelled": 0, **no_metrics}
        if labelled:
            from cnn_infer.metrics import summarise

            metrics = summarise(self.confusion, self.unknown, self.classes)
        missing = [name for name, count in zip(self.classes, support, strict=True) if not count] if labelled else []
        return {
            "images": self.images,
            "errors": self.errors,
            "unknown_folders": dict(self.folders),
            "truth": None if self.truth is None else self._truth_counts(self.truth),
            "missing_classes": missing,
            "calibration": self.calibration.results() if labelled else None,
            "guarantee": self._promise(),
            "strangers": None if self.rule is None else self.rule.observed(self.strangers, self.images - self.errors),
            "drift": None if self.validation is None or self.top is None else compare(self.validation, self.top),
            "latency_ms": {"model": self.model_ms.summary(), "total": self.total_ms.summary()},
            **metrics,
        }
