"""The command ``cnn-infer``: pictures and folders through an exported model."""

from __future__ import annotations

import gc
import sys
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from cnn_infer import console
from cnn_infer.classifier import BATCH_SIZE, Classifier
from cnn_infer.command.classify import Settings, to_file, to_stream
from cnn_infer.command.destinations import check_destinations, check_not_read
from cnn_infer.command.summary import summary
from cnn_infer.errors import CheckError, InputError
from cnn_infer.model import DEVICES, newest_export
from cnn_infer.paths.find import find_pictures
from cnn_infer.paths.listed import Listed
from cnn_infer.pixels.convert import MAX_PIXELS
from cnn_infer.pixels.read import MAX_BYTES
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text

EXAMPLES = """\b
Examples:
  cnn-infer holiday.jpg
  cnn-infer photos/ --format csv --output rows.csv --report report.json
  find /mnt -name '*.jpg' -print0 | cnn-infer - -0 --format jsonl
  cnn-infer test/ --model model.onnx          (test/CLASS/*.jpg: accuracy, F1, confusion matrix)
  cnn-infer --verify --model model.onnx       (does it compute here what it computed there?)
"""


OF_ROWS = {"batch_size", "threads", "top", "threshold", "output", "report_file", "resume", "max_pixels", "max_bytes"}
OF_ROWS |= {"strict", "labels", "follow_symlinks"}
"""Options that say how rows are made."""

COUNT = click.IntRange(1, 1 << 20)


class _Threads(click.IntRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else super().convert(value, param, ctx)


RESULT_FILE = click.Path(dir_okay=False, path_type=Path, readable=False)


@click.command("cnn-infer", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, metavar="PATH...", type=click.Path(path_type=str, readable=False))
@click.option("--model", metavar="FILE", help="The .onnx file. Default: what the newest export under runs/ ships.")
@click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Never falls back in silence."
)
@click.option(
    "--batch-size",
    type=COUNT,
    help=f"Pictures to a run of the model. Default: {BATCH_SIZE}, or what --threads auto chooses.",
)
@click.option(
    "--threads",
    type=_Threads(1, 1 << 20),
    metavar="N|auto",
    help="Threads; auto measures how many are fastest. Default: every processor this process may use.",
)
@click.option("--top", type=COUNT, default=5, show_default=True, help="Classes to name for each picture.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.0, help="Below this probability the answer is 'unknown'."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="Format of the rows.",
)
@click.option("--output", type=RESULT_FILE, help="Write the rows to this file.")
@click.option(
    "--report",
    "report_file",
    type=RESULT_FILE,
    help="Write the report here, as JSON.",
)
@click.option("--resume", is_flag=True, help="Go on with an --output that was interrupted.")
@click.option("-0", "nul", is_flag=True, help="With -: paths on standard input end with NUL, not with a line.")
@click.option(
    "--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True, help="Larger pictures are refused."
)
@click.option(
    "--max-bytes", type=click.IntRange(1), default=MAX_BYTES, show_default=True, help="Larger files are refused unread."
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a picture could not be read.")
@click.option(
    "--labels",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="auto: folders named as classes are the truth.",
)
@click.option("--follow-symlinks", is_flag=True, help="Walk into symbolic links to folders.")
@click.option(
    "--verify",
    "verifying",
    is_flag=True,
    help="Replay the golden pictures inside the model; exit with 1 on a difference.",
)
@click.option("--info", is_flag=True, help="Print what the model knows of itself, with --format jsonl all of it.")
@click.option(
    "--latency",
    is_flag=True,
    help="Measure how long a picture takes here, stage by stage, instead of classifying.",
)
@click.version_option(package_name="cnn-infer")
def command(
    paths: tuple[str, ...],
    model: str | None,
    device: str,
    batch_size: int | None,
    threads: int | Literal["auto"] | None,
    top: int,
    threshold: float,
    form: str,
    output: Path | None,
    report_file: Path | None,
    strict: bool,
    labels: str,
    follow_symlinks: bool,
    verifying: bool,
    info: bool,
    latency: bool,
    resume: bool,
    nul: bool,
    max_pixels: int,
    max_bytes: int,
) -> None:
    """Classify pictures with a model that cnn-export wrote.

    PATH is a picture, a folder, a pattern ('photos/**/*.jpg'), or - for a list of paths on standard input. Folders are
    walked in sorted order. One row a file, in order: the rows go to standard output (or --output), everything else to
    standard error.

    Where folders are named as the model's classes, accuracy and F1 are reported as well. A picture's class is the
    first such name on the way from the folder PATH down to it (cat/kitchen/1.jpg is a cat), else that of PATH
    itself; for a picture PATH, its folder's. Without such a name it has no class and counts in no figure.
    """
    if not (paths or verifying or info):
        raise click.UsageError("name a picture or a folder, or pass --verify or --info")
    if latency and not paths:
        raise click.UsageError("--latency is measured on pictures: name some")
    if nul and "-" not in paths:
        raise click.UsageError("-0 says how paths on standard input end: pass - as well")
    if latency or not paths:
        _check_no_rows_are_wanted("--latency" if latency else "--info" if info else "--verify")
    model = model or str(newest_export())
    targets = check_destinations(output, report_file)
    if resume and output is None:
        raise click.UsageError("--resume goes on with the file of --output: name it")
    classifier = Classifier(
        model, device=device, top=top, threshold=threshold, max_pixels=max_pixels, max_bytes=max_bytes
    )
    gc.freeze()  # what has been loaded by now stays, and need not be looked through
    gc.enable()
    precision = classifier.spec.details.get("precision", "fp32")
    console.say(f"model: {classifier.model.name} ({precision}) on {classifier.provider} ({classifier.model.chosen})")
    if info:
        from cnn_infer.command import info as info_of

        text = info_of.for_people(classifier) if form == "table" else info_of.as_json(classifier)
        _print(text)
    if verifying:
        _verify(classifier)
    if not paths:
        return
    given = [_listed(nul) if path == "-" else path for path in paths]
    listing = [sys.stdin.fileno()] if "-" in paths else []
    check_not_read(targets, chain([model], listing, find_pictures(given, follow_symlinks=follow_symlinks)))
    if latency:
        _latency(model, given, device, form)
        return
    limits = (top, threshold, max_pixels, max_bytes)
    settings = Settings(form, labels == "auto", batch_size, threads, follow_symlinks, *limits)
    if output is None:
        report = to_stream(classifier, given, settings, sys.stdout.buffer)
    elif output.exists() and not output.is_file():  # a pipe, a device
        with output.open("wb") as stream:
            report = to_stream(classifier, given, settings, stream)
    else:
        report = to_file(classifier, given, settings, output, resume=resume, report_file=report_file)
    if report_file is not None and (output is None or not output.is_file()):
        write_text(report_file, report.to_json() + "\n")
    console.say(*summary(report, output, report_file))
    if strict and report.errors:
        raise CheckError(f"{report.errors} of {report.images} pictures could not be read (--strict)")
    if report.errors == report.images:
        raise CheckError("none of the pictures could be read")


def _check_no_rows_are_wanted(instead: str) -> None:
    context = click.get_current_context()
    for option in context.command.params:
        name = str(option.name)
        if name in OF_ROWS and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise InputError(f"{option.opts[0]} is of no use: {instead} makes no rows")


def _latency(model: str, paths: list[str | Listed], device: str, form: str) -> None:
    from cnn_infer import latency

    found = latency.measure(model, paths, device=device)
    _print(latency.text(found) if form == "table" else found.to_json())


def _print(text: str) -> None:
    """In UTF-8 as the rows are, also where standard output has letters for few languages."""
    if sys.stdout.isatty():  # names in it cannot be commands
        text = "\n".join(map(console.shown, text.split("\n")))
    click.echo(text.encode())


def _listed(nul: bool) -> Listed:
    if sys.stdin is None:
        raise InputError("standard input is closed: - reads a list of paths from it")
    try:
        return Listed(sys.stdin.buffer, b"\0" if nul else b"\n")
    except ValueError as error:
        raise InputError(f"standard input is no list of paths: {error}") from error


def _verify(classifier: Classifier) -> None:
    from cnn_infer.golden import verify

    proof = classifier.spec.details.get("parity")
    exported = proof.get("instruction_set") if isinstance(proof, dict) else None
    here = machine.instruction_set()
    if isinstance(exported, str) and exported != here:
        console.say(f"  exported on {exported}, this machine has {here}: another arithmetic")
    replays = verify(classifier)
    worst = max(replay.difference for replay in replays)
    failed = [replay for replay in replays if not replay.passed]
    for number, replay in enumerate(replays):
        state = "ok" if replay.passed else "DIFFERS"
        names = f"{replay.expected} -> {replay.found}"
        console.say(f"  golden picture {number}: {names}, difference {replay.difference:.2g}  {state}")
    if failed:
        advice = ""
        if classifier.spec.details.get("precision") == "int8" and here in ("avx2", "generic"):
            advice = ": int8 sums may overflow here, export with --for avx2"
        raise CheckError(
            f"{len(failed)} of {len(replays)} golden pictures differ on this machine (worst {worst:.2g}){advice}"
        )
    console.say(f"verified: {len(replays)} golden pictures agree on this machine (worst difference {worst:.2g})")


def main() -> None:
    """Entry point of the command."""
    console.main(command)
