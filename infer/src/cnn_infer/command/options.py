"""The arguments and options of the command ``cnn-infer``, in the order of its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cnn_infer.classifier import BATCH_SIZE
from cnn_infer.pixels.convert import MAX_PIXELS
from cnn_infer.pixels.read import MAX_BYTES
from cnn_infer.providers.devices import DEVICES
from cnn_infer.storage.urls import is_url, resolved, shown

COUNT = click.IntRange(1, 1 << 20)


class LocalPath(click.Path):
    """A path on this machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; a URL is refused."""
        value = resolved(value) if isinstance(value, str) else value
        if is_url(value):
            self.fail(f"{shown(value)!r} is a URL, not a path on this machine", param, ctx)
        return super().convert(value, param, ctx)


class ResultFile(click.Path):
    """A file for results, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the URL as text."""
        value = resolved(value) if isinstance(value, str) else value
        return value if is_url(value) else super().convert(value, param, ctx)


RESULT_FILE = ResultFile(dir_okay=False, path_type=Path, readable=False)
OUTPUT = ResultFile(path_type=Path, readable=False)


class Threads(click.IntRange):
    """A number of threads, or ``auto``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return ``auto`` or an integer in the range."""
        return value if value == "auto" else super().convert(value, param, ctx)


def settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return the options of a device, each given as ``KEY=VALUE``, by key."""
    pairs = [value.partition("=") for value in values]
    for value, (key, equals, _) in zip(values, pairs, strict=True):
        if not (key and equals):
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", context, parameter)
    return {key: text for key, _, text in pairs}


class Format(click.Choice):  # type: ignore[type-arg]  # click 8.1 has no type argument
    """A format of the output."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the format; for ``json`` the error names ``jsonl``."""
        if value == "json":
            self.fail("pass jsonl: one JSON document a row, and a single one for --info, --doctor ...", param, ctx)
        return super().convert(value, param, ctx)


class Certified(click.FloatRange):
    """A threshold: a probability, or ``certified``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return ``certified`` or a number in the range."""
        try:
            float(value)
        except ValueError:
            from cnn_infer.guarantee import CERTIFIED  # a start without it is faster

            if value == CERTIFIED:
                return value
            self.fail(f"{value!r} is neither a number from 0 to 1 nor {CERTIFIED}", param, ctx)
        return super().convert(value, param, ctx)


OPTIONS = (
    click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=str, readable=False)),
    click.option(
        "--model",
        metavar="FILE",
        help="The .onnx file, or its URL. Default: the model that the newest export under runs/ chose to ship.",
    ),
    click.option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        show_default=True,
        help="The device that runs the model; an error if it is not available. auto: CUDA if available, else the CPU.",
    ),
    click.option(
        "--device-option",
        "device_options",
        multiple=True,
        callback=settings,
        metavar="KEY=VALUE",
        help="An option of the device, as ONNX Runtime documents its execution provider, for example "
        "device_type=GPU for openvino. Can be given several times.",
    ),
    click.option(
        "--batch-size",
        type=COUNT,
        metavar="N",
        help=f"Most pictures per run of the model. Default: {BATCH_SIZE}; with --threads auto the fastest is measured.",
    ),
    click.option(
        "--threads",
        type=Threads(1, 1 << 20),
        metavar="N|auto",
        help="Worker threads. auto: measure how many are fastest. Default: one per processor that this process may "
        "use. With --ray: the CPUs of each actor, by default 1.",
    ),
    click.option(
        "--top",
        type=COUNT,
        metavar="N",
        default=5,
        show_default=True,
        help="Classes per picture, most probable first. For --format jsonl and csv.",
    ),
    click.option(
        "--threshold",
        type=Certified(0, 1),
        metavar="P|certified",
        default=0.0,
        show_default=True,
        help="Lowest accepted probability. Below it the label is 'unknown'. certified: the threshold that cnn-export "
        "--max-error proved for this model.",
    ),
    click.option(
        "--strangers",
        is_flag=True,
        help="Give pictures that are nothing like those of training the label 'stranger', and write their strangeness "
        "into the rows. For a model that was exported with cnn-export --strangers.",
    ),
    click.option(
        "--format",
        "form",
        type=Format(["table", "jsonl", "csv", "parquet"]),
        default="table",
        show_default=True,
        help="Format of the rows. --info, --latency and --doctor take table, or jsonl for one JSON document; --ray "
        "takes parquet (its default), jsonl or csv.",
    ),
    click.option(
        "--output",
        type=OUTPUT,
        help="Write the rows to this file or URL; with --ray, to files in this folder. Default: standard output.",
    ),
    click.option(
        "--report",
        type=RESULT_FILE,
        help="Write a report to this file, as JSON: accuracy, F1, confusion matrix, errors, latency.",
    ),
    click.option(
        "--html",
        type=RESULT_FILE,
        help="Write the report to this file as a web page that opens offline, with charts and the worst mistakes. "
        "Needs the extra cnn-infer[report].",
    ),
    click.option(
        "--evidence",
        type=LocalPath(path_type=Path, readable=False),
        metavar="FOLDER",
        help="Draw for each picture which parts of it speak for and against the answer, into files in this folder. "
        "For a model that was exported with cnn-export --evidence.",
    ),
    click.option("--resume", is_flag=True, help="Continue an interrupted run: append the missing rows to --output."),
    click.option(
        "-0", "nul", is_flag=True, help="With -: a NUL byte ends each path on standard input, not a line break."
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        metavar="N",
        default=MAX_PIXELS,
        show_default=True,
        help="Largest picture in pixels, width x height. Larger ones are not decoded and count as errors.",
    ),
    click.option(
        "--max-bytes",
        type=click.IntRange(1),
        metavar="N",
        default=MAX_BYTES,
        show_default=True,
        help="Largest picture file in bytes. Larger ones are not read and count as errors.",
    ),
    click.option(
        "--ray",
        is_flag=False,
        flag_value="",
        default=None,
        metavar="[ADDRESS]",
        help="Classify on a Ray cluster, into a folder: host:port or auto. Without ADDRESS: the cluster of "
        "RAY_ADDRESS, or one that is started here. Needs the extra cnn-infer[ray].",
    ),
    click.option(
        "--part-size",
        type=COUNT,
        metavar="N",
        default=2000,
        show_default=True,
        help="Pictures in each file that --ray writes. If a node is lost, its unfinished files are made again.",
    ),
    click.option("--strict", is_flag=True, help="Exit with code 1 if any picture cannot be read."),
    click.option(
        "--labels",
        type=click.Choice(["auto", "none"]),
        default="auto",
        show_default=True,
        help="auto: a folder with the name of a class gives the true class of its pictures. none: no accuracy.",
    ),
    click.option(
        "--truth",
        type=LocalPath(dir_okay=False, path_type=Path, readable=False),
        help="A labels file (CSV or JSON lines) that gives the true classes of pictures, in place of folders.",
    ),
    click.option(
        "--columns",
        type=(str, str),
        metavar="FILE LABEL",
        help="The columns of --truth that name the picture and its class. Default: file_name label.",
    ),
    click.option("--follow-symlinks", is_flag=True, help="Also search folders behind symbolic links."),
    click.option(
        "--verify",
        is_flag=True,
        help="Check this machine: replay the pictures inside the model, from decoding to probabilities, and compare "
        "each stage with the export. Exit with code 1 if one differs.",
    ),
    click.option(
        "--certificate",
        type=LocalPath(dir_okay=False, path_type=Path, readable=False),
        help="Write what --verify or --judge found on this machine to this file, as JSON: model, processor, "
        "versions, each stage, latency.",
    ),
    click.option(
        "--fleet",
        is_flag=True,
        help="Sum up the certificates of several machines; each PATH is one, or a folder or pattern of them. With "
        "--model: all must prove this file. Exit with code 1 if one differs.",
    ),
    click.option(
        "--info",
        is_flag=True,
        help="Print a summary of the model: input, classes, training, export. With --format jsonl: the whole "
        "specification.",
    ),
    click.option(
        "--doctor",
        is_flag=True,
        help="Print what is installed and what this machine has, each with a line of advice; with --model also "
        "whether that file fits this machine. Exit with code 1 if there is an error.",
    ),
    click.option(
        "--latency",
        is_flag=True,
        help="Measure the time per picture on this machine, by stage, instead of classifying.",
    ),
    click.option(
        "--judge",
        is_flag=True,
        help="Decide which file of an export to ship on this machine. Each PATH that ends in .onnx is a file to "
        "compare: all are verified, then timed in turn, on the other PATHs or else on the pictures inside the model. "
        "Exit with code 1 if none can be shipped.",
    ),
)
"""Click's decorators, which declare them."""


def declared(function: Callable[..., None]) -> Callable[..., None]:
    """Declare the arguments and options on the function of the command."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
