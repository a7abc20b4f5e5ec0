"""``cnn-infer PATH...``: classify pictures, write a row for each, and report.

Rows go to a stream (standard output, a pipe, a device) or to a file that an interrupted run can continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from cnn_infer import console
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.command import tuning
from cnn_infer.command.growing_file import GrowingFile
from cnn_infer.command.made_with import FILES, made_with
from cnn_infer.command.results import Results
from cnn_infer.evaluation import Evaluation, Report
from cnn_infer.paths.digest import digest_of
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.rows import formatter
from cnn_infer.stream import EndedError, end_waits
from cnn_infer.system import machine
from cnn_infer.system.interrupt import deferred_interrupt

if TYPE_CHECKING:
    from cnn_infer.guarantee import Threshold
    from cnn_infer.paths.truth import Truth


@dataclass(frozen=True)
class Settings:
    """How pictures are classified and rows are written.

    Attributes:
        form: ``table``, ``jsonl`` or ``csv``.
        labels: Whether folders with the names of classes give the true classes.
        batch_size: Pictures per run of the model; None for the default, or with ``auto`` for the measured size.
        threads: Worker threads; None for one per processor, ``auto`` to measure the number.
        follow_symlinks: Whether folders behind symbolic links are searched.
        top: Classes per row, most probable first.
        threshold: Lowest accepted probability, 0 to 1, or ``certified``; below it the label is ``unknown``.
        max_pixels: Largest picture, in pixels; a larger one gives a row with an error.
        max_bytes: Largest picture file, in bytes; a larger one gives a row with an error.
        truth: The labels file that gives the true classes in place of folders; None without one.
        strangers: Whether rows say which pictures are nothing like those of training.
    """

    form: str
    labels: bool
    batch_size: int | None
    threads: int | Literal["auto"] | None
    follow_symlinks: bool
    top: int
    threshold: Threshold
    max_pixels: int
    max_bytes: int
    truth: Truth | None = None
    strangers: bool = False


def to_stream(
    classifier: Classifier,
    paths: Sequence[str | Listed],
    settings: Settings,
    stream: IO[bytes],
    results: Results,
) -> Report:
    """Classify pictures and write the rows to standard output, a pipe or a device.

    On a terminal, control characters in rows are escaped.

    Args:
        classifier: The model.
        paths: Files, folders, patterns and lists of paths.
        settings: See :class:`Settings`.
        stream: Where the rows go.
        results: Where the report goes.

    Returns:
        The report.

    Raises:
        InputError: a path does not exist, or there is no picture.
        OSError: the stream or the report cannot be written.
    """
    evaluation = _evaluation(classifier, paths, settings, results)
    on_terminal = stream.isatty()
    header, text = formatter(
        settings.form, classifier.spec.classes, on_terminal=on_terminal, strangers=settings.strangers
    )
    # rows on the terminal show the progress themselves, and a bar would mix with them
    bar = nullcontext(lambda _: None) if on_terminal else console.progress("classifying")
    with bar as advance, closing(evaluation.rows(paths)) as rows:
        for row in rows:
            stream.write((header + text(row)).encode())
            header = ""
            advance(1)
        stream.flush()
    return results.write(evaluation, classifier, paths)


def to_file(
    classifier: Classifier,
    paths: Sequence[str | Listed],
    settings: Settings,
    output: Path,
    results: Results,
    *,
    name: str | None = None,
    resume: bool,
) -> Report:
    """Classify pictures and write the rows to a file that an interrupted run can continue.

    Args:
        classifier: The model.
        paths: Files, folders, patterns and lists of paths.
        settings: See :class:`Settings`.
        output: The file for the rows.
        results: Where the report goes.
        name: The name of the file for people; None for its path.
        resume: Whether to continue an interrupted run.

    Returns:
        The report on all rows, including those of the interrupted run.

    Raises:
        InputError: a path does not exist, there is no picture, there is no run to resume, or the model, a setting or
            the set of files changed since it was interrupted.
        KeyboardInterrupt: on Ctrl-C, after the current row is written.
        OSError: a file cannot be written.
    """
    found = find_pictures(paths, follow_symlinks=settings.follow_symlinks)
    same = {**made_with(classifier, settings), FILES: digest_of(found)}
    header, text = formatter(settings.form, classifier.spec.classes, strangers=settings.strangers)
    with GrowingFile(output, same, resume=resume, name=name) as file:
        evaluation = _evaluation(classifier, paths, settings, results, file.start.counted)
        with deferred_interrupt(end_waits) as interrupted:
            with console.progress("classifying") as advance, closing(evaluation.rows(paths, file.start.rows)) as rows:
                advance(file.start.rows)
                try:
                    for row in rows:
                        file.row(text(row) if file.rows else header + text(row), evaluation.counted)
                        advance(1)
                        if interrupted():
                            break
                except EndedError:
                    if not interrupted():
                        raise
            if interrupted() or results.send is not None:  # a failed upload can be repeated without the pictures
                file.save(evaluation.counted)
            if interrupted():
                if file.rows:
                    written = f"{console.quantity(file.rows, 'row')} written to {printable(output)}"
                    console.message(f"{written}: run the same command with --resume to continue")
                raise KeyboardInterrupt
        # before finish(): after a kill or Ctrl-C in between, --resume can still write them
        report = results.write(evaluation, classifier, paths)
        file.finish()
    return report


def _evaluation(
    classifier: Classifier,
    paths: Sequence[str | Listed],
    settings: Settings,
    results: Results,
    counted: Any = None,
) -> Evaluation:
    """Prepare a run; with ``--threads auto``, measure and print the number of threads and the batch size.

    Args:
        classifier: The model.
        paths: Files, folders, patterns and lists of paths.
        settings: See :class:`Settings`.
        results: Where the report goes.
        counted: The counts of the interrupted run that this one continues; None for a new run.
    """
    threads, batch_size, tuned = settings.threads, settings.batch_size, None
    if threads == "auto":
        pictures = find_pictures(paths, follow_symlinks=settings.follow_symlinks)
        plan = tuning.plan(classifier, pictures, batch_size=batch_size)
        threads, batch_size, tuned = plan.threads, plan.batch_size, plan.why
        processors = console.quantity(machine.usable_cpus(), "processor")
        console.message(f"threads: {threads} on {processors}, one session, batch size {batch_size} ({tuned})")
    return Evaluation(
        classifier,
        labels=settings.labels,
        truth=settings.truth,
        batch_size=batch_size or BATCH_SIZE,
        threads=threads,
        follow_symlinks=settings.follow_symlinks,
        tuned=tuned,
        counted=counted,
        page=results.html is not None,
    )
