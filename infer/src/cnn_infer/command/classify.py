"""What ``cnn-infer PATH...`` does: a row for each picture, to standard output or into a file that survives anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from cnn_infer import console
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.command import tuning
from cnn_infer.command.growing_file import GrowingFile, digest_of
from cnn_infer.command.rows import formatter
from cnn_infer.evaluation import Evaluation, Report
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text
from cnn_infer.system.interrupt import noticed

ROW_OPTIONS = ("form", "labels", "top", "threshold", "max_pixels", "max_bytes")
"""The settings that rows depend on: a run goes on only with the same."""


@dataclass(frozen=True)
class Settings:
    """How rows are made.

    Attributes:
        form: ``table``, ``jsonl`` or ``csv``.
        labels: Whether folders that are named as classes are the truth.
        batch_size: Pictures to a run of the model; None for the usual number, or what ``auto`` chooses.
        threads: Threads; None for every processor, ``auto`` to measure how many.
        follow_symlinks: Walk into symbolic links to folders.
        top: Classes to name for each picture.
        threshold: Below this probability the answer is ``unknown``.
        max_pixels: Larger pictures are refused.
        max_bytes: Larger files are refused.
    """

    form: str
    labels: bool
    batch_size: int | None
    threads: int | Literal["auto"] | None
    follow_symlinks: bool
    top: int
    threshold: float
    max_pixels: int
    max_bytes: int


def to_stream(classifier: Classifier, paths: Sequence[str | Listed], settings: Settings, stream: IO[bytes]) -> Report:
    """Write the rows to standard output, a pipe or a device; the report.

    On a terminal every row is one line in which names cannot be commands; elsewhere names stay what they are.

    Raises:
        InputError: a path does not exist, or there is no picture at all.
    """
    evaluation = _evaluation(classifier, paths, settings)
    header, text = formatter(settings.form, classifier.spec.classes)
    on_terminal = stream.isatty()
    # rows that scroll by on the same terminal are progress enough, and a bar would be drawn into them
    bar = nullcontext(lambda _: None) if on_terminal else console.progress("classifying")
    with bar as advance, closing(evaluation.rows(paths)) as rows:
        for row in rows:
            line = f"{console.shown(text(row)[:-1])}\n" if on_terminal else text(row)
            stream.write((header + line).encode())
            header = ""
            advance(1)
        stream.flush()
    return evaluation.report()


def to_file(
    classifier: Classifier,
    paths: Sequence[str | Listed],
    settings: Settings,
    output: Path,
    *,
    resume: bool,
    report_file: Path | None = None,
) -> Report:
    """Write the rows to a file, or go on with one that was interrupted; the report, also into a file.

    Raises:
        InputError: a path does not exist, there is no picture at all, or nothing (or something else) to resume.
        KeyboardInterrupt: after Ctrl-C, when the rows of the batches at hand are written.
    """
    found = find_pictures(paths, follow_symlinks=settings.follow_symlinks)
    made_with = {
        "the model": classifier.model.digest,
        "an option": json.dumps([getattr(settings, name) for name in ROW_OPTIONS]),
        "the set of files": digest_of(found),
    }
    header, text = formatter(settings.form, classifier.spec.classes)
    with noticed() as interrupted, GrowingFile(output, made_with, resume=resume) as file:
        evaluation = _evaluation(classifier, paths, settings, file.start.counted)
        with console.progress("classifying") as advance, closing(evaluation.rows(paths, file.start.rows)) as rows:
            advance(file.start.rows)
            for row in rows:
                file.row(text(row) if file.rows else header + text(row), evaluation.counted)
                advance(1)
                if interrupted():
                    file.save(evaluation.counted)
                    break
        if interrupted():
            console.say(f"{file.rows:,} rows are in {printable(output)}: the same command with --resume goes on")
            raise KeyboardInterrupt
        report = evaluation.report()
        if report_file is not None:  # before the run counts as finished, or a kill in between would cost the report
            write_text(report_file, report.to_json() + "\n")
        file.finish()
    return report


def _evaluation(
    classifier: Classifier, paths: Sequence[str | Listed], settings: Settings, counted: object = None
) -> Evaluation:
    threads, batch_size, tuned = settings.threads, settings.batch_size, None
    if threads == "auto":
        pictures = find_pictures(paths, follow_symlinks=settings.follow_symlinks)
        plan = tuning.plan(classifier, pictures, batch_size=batch_size)
        threads, batch_size, tuned = plan.threads, plan.batch_size, plan.why
        console.say(
            f"threads: {threads} on {machine.usable_cpus()} processors, one session, batches of {batch_size} ({tuned})"
        )
    return Evaluation(
        classifier,
        labels=settings.labels,
        batch_size=batch_size or BATCH_SIZE,
        threads=threads,
        follow_symlinks=settings.follow_symlinks,
        tuned=tuned,
        counted=counted,
    )
