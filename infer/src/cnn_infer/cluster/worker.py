"""What an actor of the cluster does: it holds a classifier and classifies parts of the listing."""

from __future__ import annotations

import os
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnn_infer import __version__
from cnn_infer.classifier import Classifier
from cnn_infer.cluster.folder import JobFolder
from cnn_infer.cluster.table import file_of
from cnn_infer.drift import validation_of
from cnn_infer.errors import EdgeCNNError, InputError
from cnn_infer.evaluation import Evaluation
from cnn_infer.highlights import Highlights
from cnn_infer.tally import Tally

if TYPE_CHECKING:
    import numpy as np

    from cnn_infer.paths.truth import Truth

_ON_GPU = ("CUDA", "Tensorrt", "NvTensorRTRTX")
"""How the names of execution providers start for which an actor asks Ray for a GPU."""

_NOTHING = {"pictures": 0, "errors": 0, "started": 0.0, "ended": 0.0}
"""The facts of a part in an answer, for one that is not done."""


@dataclass(frozen=True)
class Work:
    """What every part of a job has in common.

    Attributes:
        classifier: The model; it is opened again where an actor starts, on the same kind of device.
        version: The version of cnn-infer that started the job.
        directory: The working directory, in which relative paths start; None if there are none.
        folder: The folder of the job.
        form: ``parquet``, ``jsonl`` or ``csv``.
        labels: Whether there are true classes.
        truth: The labels file that gives them in place of folders; None without one.
        batch_size: Pictures per run of the model.
        threads: Worker threads of an actor, as many as the CPUs that it gets.
        strangers: Whether rows say which pictures are nothing like those of training.
        page: Whether to keep what a page shows of single pictures.
    """

    classifier: Classifier
    version: str
    directory: str | None
    folder: JobFolder
    form: str
    labels: bool
    truth: Truth | None
    batch_size: int
    threads: int
    strangers: bool
    page: bool

    @property
    def gpus(self) -> int:
        """GPUs that an actor asks Ray for."""
        return int(self.classifier.provider.startswith(_ON_GPU))

    def do(self, part: int) -> dict[str, Any]:
        """Classify the pictures of a part, write its rows and counts, and return these counts.

        A part that is done already, because its node was lost after the work, is not done again.

        Raises:
            EdgeCNNError: its list cannot be read, or the model failed.
            OSError: its rows cannot be written.
        """
        if (done := self.folder.counts(part)) is not None:
            return done
        evaluation = Evaluation(
            self.classifier,
            labels=self.labels,
            truth=self.truth,
            batch_size=self.batch_size,
            threads=self.threads,
            page=self.page,
        )
        started = time.time()
        with closing(evaluation.rows_of(self.folder.read_list(part))) as rows:
            file = file_of(rows, self.form, self.classifier.spec.classes, strangers=self.strangers)
        counted = evaluation.counted(times=True)
        facts = {"pictures": counted["images"], "errors": counted["errors"], "counted": counted}
        return self.folder.write_part(part, file, {**facts, "started": started})

    def are_counts(self, counts: dict[str, Any], pictures: int) -> bool:
        """Whether these are counts that :meth:`do` writes for a part with this number of pictures."""
        classifier = self.classifier
        spec = classifier.spec
        tally = Tally(
            spec.classes, validation_of(spec.details), guarantee=classifier.guarantee, rule=classifier.stranger_rule
        )
        try:
            tally.merge(counts["counted"])
            if self.page:
                Highlights.restored(counts["counted"]["page"])
        except (InputError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return False
        return bool(tally.images == counts["pictures"] == pictures and tally.errors == counts["errors"])


class PartClassifier:
    """An actor. It never raises: a node that cannot work says why in its answer, and the job ends in one line."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._problem = _problem(work)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Do parts.

        Args:
            batch: The numbers of the parts, as ``part``.

        Returns:
            For each part ``part``, ``pictures``, ``errors``, ``started`` and ``ended`` (seconds since 1970), and
            ``problem``, which is empty for a part that is done.
        """
        answers: list[dict[str, Any]] = []
        for part in batch["part"].tolist():
            answer = {"part": part, "problem": self._problem, **_NOTHING}
            if not self._problem:
                try:
                    done = self._work.do(part)
                    answer |= {key: done[key] for key in _NOTHING}
                except EdgeCNNError as error:
                    answer["problem"] = str(error)
                except OSError as error:
                    answer["problem"] = f"{error.strerror or error}: {error.filename or self._work.folder}"
                except MemoryError:
                    answer["problem"] = "out of memory: pass a smaller --batch-size or --part-size"
            answers.append(answer)
        return {key: [answer[key] for answer in answers] for key in answers[0]}


def _problem(work: Work) -> str:
    """Why this node cannot work; empty if it can."""
    if __version__ != work.version:
        return f"a node has cnn-infer {__version__}, and the job was started with {work.version}: install one version"
    if work.directory is not None:
        try:
            os.chdir(work.directory)
        except OSError as error:
            return f"a node cannot open the folder {work.directory}: {error.strerror} (all nodes need the same files)"
    return ""
