"""A job: parts of a listing that actors of a Ray Data pipeline classify, and the report that their counts add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from cnn_infer.cluster.connection import places_for
from cnn_infer.cluster.folder import JOB, MANIFEST, JobFolder
from cnn_infer.cluster.listing import Listing
from cnn_infer.cluster.worker import PartClassifier, Work
from cnn_infer.console import progress
from cnn_infer.errors import ClusterError
from cnn_infer.evaluation import Report
from cnn_infer.highlights import Highlights
from cnn_infer.system import machine
from cnn_infer.tally import Tally


@dataclass
class Job:
    """The parts of a listing, of which some may be done.

    Attributes:
        folder: Where rows and counts are.
        listing: The listing.
        made_with: What a resumed job must have in common with this one, as JSON.
        done: The parts that are done.
        pictures_done: Pictures in the parts that an interrupted run has done.
        answered: Pictures that were classified in this run.
        seconds: Wall time from the start of the first part of this run to the end of the last.
        threads: Worker threads of all actors.
    """

    folder: JobFolder
    listing: Listing
    made_with: dict[str, Any]
    done: set[int] = field(default_factory=set)
    pictures_done: int = 0
    answered: int = 0
    seconds: float = 0.0
    threads: int = 0

    def begin(self) -> None:
        """Note what the job was started with; from now on it can be resumed."""
        numbers = {"parts": self.listing.parts, "pictures": self.listing.pictures}
        self.folder.write_json(JOB, {**numbers, "made_with": self.made_with})

    def resume(self, work: Work) -> None:
        """Find out which parts are done. One whose rows or counts are damaged counts as missing."""
        with progress("checking finished parts", self.listing.parts, unit="parts") as advance:
            everything = range(self.listing.parts)
            for part, counts in zip(everything, self.folder.finished(everything), strict=True):
                if self._are_counts(counts, part, work) and self.folder.is_whole(part, counts):
                    self.done.add(part)
                    self.pictures_done += counts["pictures"]
                advance(1)
        self.folder.forget(part for part in everything if part not in self.done)

    def _are_counts(self, counts: dict[str, Any] | None, part: int, work: Work) -> TypeGuard[dict[str, Any]]:
        return counts is not None and work.are_counts(counts, self.listing.pictures_in(part))

    def run(self, work: Work) -> None:
        """Do the missing parts, while this process is connected to a cluster.

        Args:
            work: What the parts have in common.

        Raises:
            ClusterError: a node cannot do the work.
            KeyboardInterrupt: on Ctrl-C. Parts that are done stay done.
        """
        missing = [part for part in range(self.listing.parts) if part not in self.done]
        if not missing:
            return
        first, last = float("inf"), 0.0
        with progress("classifying", self.listing.pictures) as advance:
            advance(self.pictures_done)
            for answer in self._answers(work, missing):
                if answer["problem"]:
                    raise ClusterError(answer["problem"])
                self.done.add(answer["part"])
                self.answered += answer["pictures"] - answer["errors"]
                first, last = min(first, answer["started"]), max(last, answer["ended"])
                advance(answer["pictures"])
        if len(self.done) != self.listing.parts:
            lost = self.listing.parts - len(self.done)
            raise ClusterError(f"{lost} of {self.listing.parts} parts are missing: run the same command with --resume")
        self.seconds = last - first

    def _answers(self, work: Work, missing: list[int]) -> Iterator[dict[str, Any]]:
        """Yield what actors answer on each part, as they finish.

        Ray Data starts lost actors and their tasks again, without a limit. Errors of the work itself are answers.
        """
        import ray.data
        from ray.exceptions import RayError

        places = places_for(work.threads, gpus=work.gpus)
        actors = min(places, len(missing))
        self.threads = actors * work.threads
        parts = ray.data.from_items([{"part": part} for part in missing], override_num_blocks=len(missing))
        answers = parts.map_batches(
            PartClassifier,
            fn_constructor_kwargs={"work": work},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
            num_cpus=work.threads,
            num_gpus=work.gpus or None,
        )
        try:
            yield from answers.iter_rows()
        except RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise ClusterError(f"the cluster failed: {lines[-1] if lines else type(error).__name__}") from error

    def report(self, work: Work, tally: Tally, skipped: dict[str, int]) -> tuple[Report, Highlights | None]:
        """Add up the counts of all parts, write the manifest, and return the report and what a page shows.

        Latency is that of all parts, throughput that of this run.

        Args:
            work: What the parts have in common.
            tally: An empty tally, for the sums.
            skipped: Files that the search left out, by kind.

        Raises:
            ClusterError: rows or counts of a part are missing or damaged, or do not fit the listing.
        """
        classifier = work.classifier
        highlights = Highlights() if work.page else None
        entries = []
        everything = range(self.listing.parts)
        for part, counts in zip(everything, self.folder.finished(everything), strict=True):
            if not self._are_counts(counts, part, work):
                raise ClusterError(f"{self._damaged(part)}: run the same command with --resume")
            tally.merge(counts["counted"])
            if highlights is not None:
                highlights.merge(counts["counted"].get("page"))
            facts = {key: counts[key] for key in ("pictures", "errors", "bytes", "sha256")}
            entries.append({"file": self.folder.rows_name(part), **facts})
        totals = {"pictures": tally.images, "errors": tally.errors, "parts": len(entries)}
        self.folder.write_json(MANIFEST, {**totals, "made_with": self.made_with, "files": entries})
        report = Report(
            **tally.results(),
            skipped=skipped,
            images_per_second=self.answered / self.seconds if self.seconds else 0.0,
            provider=classifier.provider,
            threads=self.threads or work.threads,
            batch_size=work.batch_size,
            tuned=None,
            model=classifier.model.name,
            precision=classifier.spec.precision,
            machine=machine.description(),
        )
        return report, highlights

    def _damaged(self, part: int) -> str:
        return f"the rows or counts of part {part} in {self.folder} are missing or damaged"
