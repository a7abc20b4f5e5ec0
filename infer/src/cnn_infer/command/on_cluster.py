"""``cnn-infer PATH... --ray``: the same rows from a Ray cluster, in a folder of parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from cnn_infer import __version__, console
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.cluster.connection import LOCAL, check_installed, connected, places_for
from cnn_infer.cluster.folder import JobFolder
from cnn_infer.cluster.job import Job
from cnn_infer.cluster.listing import cut
from cnn_infer.cluster.worker import Work
from cnn_infer.command.classify import Settings
from cnn_infer.command.made_with import FILES, MadeWith, check_unchanged, made_with
from cnn_infer.command.results import Results
from cnn_infer.drift import validation_of
from cnn_infer.errors import InputError, TerminatedError
from cnn_infer.evaluation import Report
from cnn_infer.paths.find import Found, find_below
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.paths.skipped import Skipped, no_pictures
from cnn_infer.storage.urls import is_url
from cnn_infer.system.interrupt import termination_as_interrupt
from cnn_infer.tally import Tally

_ADDRESS = re.compile(r"auto|[^/\s]+:\d+")


def to_folder(
    classifier: Classifier,
    paths: Sequence[str | Listed],
    settings: Settings,
    *,
    output: str,
    results: Results,
    address: str,
    part_size: int,
    resume: bool,
) -> Report:
    """Classify pictures on a Ray cluster; write rows in parts, the manifest, the report, and at last ``_SUCCESS``.

    Args:
        classifier: The model.
        paths: Files, folders, patterns and lists of paths; all nodes must be able to read them.
        settings: See :class:`Settings`; ``threads`` are those of an actor, with as many CPUs.
        output: The folder for the parts.
        results: Where the report goes.
        address: The cluster; empty for that of ``RAY_ADDRESS``, or one that is started here.
        part_size: Pictures in a part.
        resume: Whether to do what is missing of an interrupted job.

    Returns:
        The report on all rows.

    Raises:
        InputError: a path does not exist, there is no picture, the folder is in use, there is no job to resume, or the
            model, a setting or the set of files changed since it was interrupted.
        ClusterError: the cluster cannot be reached, or a node cannot do the work.
        KeyboardInterrupt: on Ctrl-C.
        TerminatedError: on SIGTERM.
        OSError: a file cannot be written.
    """
    spec = classifier.spec
    tally = Tally(
        spec.classes, validation_of(spec.details), settings.truth, classifier.guarantee, classifier.stranger_rule
    )
    folder = JobFolder(output, settings.form)
    same = made_with(classifier, settings, {"--part-size": part_size, "--html": results.html is not None})
    begun = folder.read_job() if resume else None
    if begun is None:
        folder.check_free()
    else:  # what is known before the listing
        known = {key: value for key, value in begun["made_with"].items() if key != FILES}
        _check_unchanged(known, same, folder)
    work = Work(
        classifier=classifier,
        version=__version__,
        directory=os.getcwd() if any(map(_starts_here, paths)) else None,
        folder=folder,
        form=settings.form,
        labels=settings.labels,
        truth=settings.truth,
        batch_size=settings.batch_size or BATCH_SIZE,
        threads=1 if settings.threads is None else int(settings.threads),
        strangers=settings.strangers,
        page=results.html is not None,
    )
    with connected(address or None), _termination():
        places_for(work.threads, gpus=work.gpus)
        skipped = Skipped()
        found = find_below(paths, follow_symlinks=settings.follow_symlinks, skipped=skipped)
        with console.progress("listing") as advance:
            if begun is None:
                found = _first_exists(found, skipped)
            folder.begin()
            with folder.lists(None if begun is None else begun["parts"]) as keep:
                listing = cut(found, part_size, keep, advance)
        job = Job(folder, listing, {**same, FILES: listing.digest})
        if begun is None:
            job.begin()
        else:
            _check_unchanged(begun["made_with"], job.made_with, folder)
            job.resume(work)
        try:
            job.run(work)
        except KeyboardInterrupt:
            parts = f"{folder.parts_done():,} of {console.quantity(listing.parts, 'part')}"
            console.message(f"{parts} written to {folder}: run the same command with --resume to do the rest")
            raise
    report, highlights = job.report(work, tally, dict(skipped.counts))
    results.write_report(report, highlights, classifier, paths)
    folder.finish(listing.parts)
    return report


@contextmanager
def _termination() -> Iterator[None]:
    """Inside the block, treat SIGTERM as Ctrl-C; the block then raises TerminatedError."""
    with termination_as_interrupt() as terminated:
        try:
            yield
        except KeyboardInterrupt as error:
            if terminated():
                raise TerminatedError("terminated") from error
            raise


def check_address(value: str) -> None:
    """Check the value of ``--ray``, which is empty without an address, and that Ray is installed.

    Raises:
        InputError: Ray is not installed, or the value is no address but for example a PATH.
    """
    check_installed()
    named = os.environ.get("RAY_ADDRESS", "")
    if (value or named).startswith("ray://"):
        raise InputError(
            "Ray Data does not work through Ray Client (ray://): run the command on a node of the cluster with "
            "--ray auto, for example by ray job submit"
        )
    if value and not _ADDRESS.fullmatch(value):
        raise InputError(f"--ray takes host:port or auto, not {printable(value)}: name PATH before --ray")
    if not value and named not in ("", LOCAL) and not _ADDRESS.fullmatch(named):
        raise InputError(f"RAY_ADDRESS takes host:port, auto or {LOCAL}, not {printable(named)}")


def _check_unchanged(begun: MadeWith, now: MadeWith, folder: JobFolder) -> None:
    restart = "choose another folder and start again without --resume"
    check_unchanged(begun, now, name=f"the job in {folder}", restart=restart)


def _first_exists(found: Iterator[Found], skipped: Skipped) -> Iterator[Found]:
    """Return the same pictures, after a check that there is one.

    Raises:
        InputError: there is none.
    """
    first = next(found, None)
    if first is None:
        raise no_pictures(skipped.counts)
    return chain([first], found)


def _starts_here(path: str | Listed) -> bool:
    """Whether a path starts in the working directory, or may."""
    return isinstance(path, Listed) or not (Path(path).is_absolute() or is_url(path))
