"""The files for the results of a run: the report as JSON, and as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_infer.classifier import Classifier
from cnn_infer.command.summary import findings, remarks
from cnn_infer.evaluation import Evaluation, Report
from cnn_infer.optional_outputs import EVIDENCE
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnn_infer.highlights import Highlights
    from cnn_infer.page.run_page import Draw


@dataclass(frozen=True)
class Results:
    """Where the report of a run goes.

    Attributes:
        report: The file for the report as JSON; None for no file.
        html: The file for the page; None for no page.
        max_pixels: Largest picture that the page reads, in pixels.
        max_bytes: Largest picture file that the page reads, in bytes.
        only_files: Whether every path of the run is a picture; see :func:`cnn_infer.command.summary.summary`.
        send: Called when all files are written, to upload those that go to URLs; None if none does.
    """

    report: Path | None
    html: Path | None
    max_pixels: int
    max_bytes: int
    only_files: bool = False
    send: Callable[[], None] | None = None

    def write(self, evaluation: Evaluation, classifier: Classifier, paths: Sequence[str | Listed]) -> Report:
        """Write the report of a finished run to its files, and return it.

        Raises:
            OSError: a file cannot be written.
        """
        report = evaluation.report()
        self.write_report(report, evaluation.highlights, classifier, paths)
        return report

    def write_report(
        self, report: Report, highlights: Highlights | None, classifier: Classifier, paths: Sequence[str | Listed]
    ) -> None:
        """Write a report to its files; the page only with what it shows of single pictures.

        Raises:
            OSError: a file cannot be written.
        """
        if self.report is not None:
            write_text(self.report, report.to_json() + "\n")
        if self.html is not None and highlights is not None:
            from cnn_infer.command.info import facts
            from cnn_infer.page.run_page import page_of

            page = page_of(
                report,
                highlights,
                classifier,
                facts=facts(classifier),
                notes=[*findings(report), *remarks(report, only_files=self.only_files)],
                draw=_draw(classifier) if EVIDENCE in classifier.model.available else None,
                paths=[printable(path) if isinstance(path, str) else "a list of paths" for path in paths],
                max_pixels=self.max_pixels,
                max_bytes=self.max_bytes,
            )
            write_text(self.html, page)
        if self.send is not None:
            self.send()


def _draw(classifier: Classifier) -> Draw:
    from cnn_infer.command.drawing import drawing

    def draw(path: str, image: Image) -> tuple[Image, str]:
        found = classifier.explain(path)
        return drawing(image, found, classifier.spec), found.runner_up.name

    return draw
