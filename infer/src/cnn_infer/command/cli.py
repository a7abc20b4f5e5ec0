"""The command ``cnn-infer``: which part of the package does the work that its options ask for."""

from __future__ import annotations

import gc
import glob
import os
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cnn_infer import __version__, console
from cnn_infer.archives.access import is_archive, is_member
from cnn_infer.classifier import Classifier
from cnn_infer.command.checks import check_options, is_model, is_pipe_or_device
from cnn_infer.command.classify import Settings, to_file, to_stream
from cnn_infer.command.destinations import check_destinations, check_not_read
from cnn_infer.command.examples import EXAMPLES
from cnn_infer.command.options import declared
from cnn_infer.command.printing import print_text
from cnn_infer.command.results import Results
from cnn_infer.command.summary import summary
from cnn_infer.command.uploads import Uploads
from cnn_infer.errors import CheckError, InputError
from cnn_infer.model import newest_export
from cnn_infer.optional_outputs import EVIDENCE
from cnn_infer.paths.find import find_local, find_pictures, is_picture
from cnn_infer.paths.listed import Listed
from cnn_infer.storage.urls import is_url, resolved, shown

if TYPE_CHECKING:
    from cnn_infer.guarantee import Threshold
    from cnn_infer.paths.truth import Truth


@click.command("cnn-infer", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@declared
@click.version_option(__version__)
@click.pass_context
def command(
    context: click.Context,
    paths: tuple[str, ...],
    model: str | None,
    device: str,
    device_options: dict[str, str],
    batch_size: int | None,
    threads: int | Literal["auto"] | None,
    top: int,
    threshold: Threshold,
    strangers: bool,
    form: str,
    output: Path | str | None,
    report: Path | str | None,
    html: Path | str | None,
    evidence: Path | None,
    strict: bool,
    labels: str,
    truth: Path | None,
    columns: tuple[str, str] | None,
    follow_symlinks: bool,
    verify: bool,
    certificate: Path | None,
    fleet: bool,
    info: bool,
    doctor: bool,
    latency: bool,
    judge: bool,
    resume: bool,
    ray: str | None,
    part_size: int,
    nul: bool,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Classify pictures with a model that cnn-export wrote.

    PATH is a picture, a folder, an archive (zip, tar, tar.gz), a pattern ('photos/**/*.jpg'), a URL of one of these
    (s3://bucket/photos), or - for a list of paths on standard input. Folders are searched in sorted order. Each picture
    gives one row, in order. Rows go to standard output or to --output; all other messages go to standard error.

    If folders have the names of the model's classes, accuracy and F1 are reported too. The true class of a picture is
    the first folder below PATH with the name of a class, from the top down (cat/kitchen/1.jpg is a cat), or else PATH
    itself. For a single picture, its own folder counts. --truth names a labels file instead. Pictures without a true
    class do not count in accuracy and F1.
    """
    check_options(context)
    if info or latency or doctor or (paths and output is None):
        console.check_standard_output()
    if judge:
        _judge(paths, device, form, nul, certificate)
        return
    if doctor:
        from cnn_infer.command.doctor import examine

        examine(model, device, device_options, form)
        return
    if fleet:
        from cnn_infer.command.fleet import sum_up

        sum_up(paths, model, form)
        return
    if ray is not None:
        from cnn_infer.command.on_cluster import check_address

        check_address(ray)
        form = "parquet" if form == "table" else form
    model = model or str(newest_export())
    uploads = Uploads([model, *paths], can_resume=output is not None)
    rows_file = uploads.file_for(output) if ray is None else None
    report_file, html_file = uploads.file_for(report), uploads.file_for(html)
    targets = check_destinations(rows_file, report_file, certificate, html_file)
    classifier = Classifier(
        model,
        device=device,
        top=top,
        threshold=threshold,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        strangers=strangers,
        device_options=device_options,
    )
    gc.freeze()  # imported modules stay for good: collections need not visit their objects
    gc.enable()
    opened = classifier.model
    console.message(f"model: {opened.name} ({classifier.spec.precision}) on {classifier.provider} ({opened.chosen})")
    if info:
        from cnn_infer.command.info import as_json, for_people

        print_text(for_people(classifier) if form == "table" else as_json(classifier))
    if verify:
        from cnn_infer.command.verify import verify_model

        if certificate is not None:
            check_not_read([certificate], [model, *paths])
        verify_model(classifier, certificate)
    if not paths:
        return
    given = [_paths_from_standard_input(nul) if path == "-" else path for path in paths]
    listing = [*([sys.stdin.fileno()] if "-" in paths else []), *([str(truth)] if truth else [])]
    check_not_read(targets, chain([model], listing, find_local(given, follow_symlinks=follow_symlinks)))
    if latency:
        _latency(model, given, device, device_options, form)
        return
    if evidence is not None or (html_file is not None and EVIDENCE in classifier.model.available):
        from cnn_infer.command.evidence import check_folder, check_model

        check_model(classifier)
        if evidence is not None:
            check_folder(evidence, paths, find_pictures(given, follow_symlinks=follow_symlinks), targets)
    known = None if truth is None else _truth(truth, columns)
    only_files = all(map(_is_picture_file, paths))
    send = uploads.send if uploads else None
    results = Results(
        report=report_file,
        html=html_file,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        only_files=only_files,
        send=send,
    )
    settings = Settings(
        form=form,
        labels=labels == "auto",
        batch_size=batch_size,
        threads=threads,
        follow_symlinks=follow_symlinks,
        top=top,
        threshold=threshold,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        truth=known,
        strangers=strangers,
    )
    if ray is not None:
        from cnn_infer.command.on_cluster import to_folder

        found = to_folder(
            classifier,
            given,
            settings,
            output=str(output),
            results=results,
            address=ray,
            part_size=part_size,
            resume=resume,
        )
    elif rows_file is None:
        found = to_stream(classifier, given, settings, sys.stdout.buffer, results)
    elif is_pipe_or_device(rows_file):
        with rows_file.open("wb") as stream:
            found = to_stream(classifier, given, settings, stream, results)
    else:
        name = uploads.name_of(rows_file)
        found = to_file(classifier, given, settings, rows_file, results, name=name, resume=resume)
    written = [file for file in (output, report, html) if file is not None]
    uploads.discard()
    console.message(*summary(found, written, only_files=only_files))
    if evidence is not None:
        from cnn_infer.command.evidence import draw_all

        pictures = find_pictures(given, follow_symlinks=follow_symlinks)
        console.message(draw_all(classifier, pictures, evidence, max_pixels=max_pixels, max_bytes=max_bytes))
    if strict and found.errors:
        raise CheckError(
            f"{found.errors:,} of {console.quantity(found.images, 'picture')} could not be read (--strict)"
        )
    if found.errors == found.images:
        raise CheckError("none of the pictures could be read")


def _is_picture_file(path: str) -> bool:
    """Whether a path names one picture, also in an archive: no folder, archive, pattern or list."""
    path = resolved(path)
    if is_member(path):
        return True
    if is_url(path):
        name = shown(path)
        return is_picture(name) and not glob.has_magic(name)
    return path != "-" and os.path.isfile(path) and not is_archive(path)


def _truth(file: Path, columns: tuple[str, str] | None) -> Truth:
    from cnn_infer.paths.truth import Truth

    return Truth(file) if columns is None else Truth(file, columns)


def _latency(model: str, paths: list[str | Listed], device: str, device_options: dict[str, str], form: str) -> None:
    from cnn_infer import latency

    found = latency.measure(model, paths, device=device, device_options=device_options)
    print_text(latency.text(found) if form == "table" else found.to_json())


def _judge(paths: tuple[str, ...], device: str, form: str, nul: bool, certificate: Path | None) -> None:
    from cnn_infer.command.judge import judge_models

    models = [path for path in paths if is_model(path)]
    pictures = [_paths_from_standard_input(nul) if path == "-" else path for path in paths if not is_model(path)]
    check_not_read(check_destinations(None, None, certificate), chain(models, find_local(pictures)))
    gc.enable()
    judge_models(models, pictures, device, form, certificate)


def _paths_from_standard_input(nul: bool) -> Listed:
    if sys.stdin is None:
        raise InputError("standard input is closed: - reads a list of paths from it")
    try:
        return Listed(sys.stdin.buffer, b"\0" if nul else b"\n")
    except ValueError as error:
        raise InputError(f"standard input is not a list of paths: {error}") from error


def main() -> None:
    """Run the command and exit with its code."""
    console.main(command)
