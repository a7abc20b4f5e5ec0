"""The command ``cnn-train``: from pictures to a trained network in a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from cnn_infer import console
from cnn_infer.command.printing import print_text
from cnn_infer.errors import CheckError
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import write_text
from cnn_infer.system.interrupt import while_loading

from cnn_train.config import OPTIONS, checked
from cnn_train.options import COLUMNS, FOLDER, SIZE, SWITCH, Option

EXAMPLES = """\b
Examples:
  cnn-train                                    train on the digits of scikit-learn (half a minute)
  cnn-train fashion-mnist --model nano         train a small network on Fashion-MNIST
  cnn-train photos/ --size 96 --epochs 30      train on photos/CLASS/*.jpg, scaled to 96 x 96 pixels
  cnn-train --resume                           continue the newest unfinished training
  cnn-train --compare runs/a runs/b            which of two trainings is better, by more than chance
Next step: cnn-export --quantize
"""

COMPARE_OPTIONS = ("moved", "report")
"""Names of the options that only --compare has."""

FLAGS = {"moved": "--data", "form": "--format"}
"""Options whose name is not that of their flag."""

Command = TypeVar("Command", bound=Callable[..., Any])


def _size(text: str) -> int | tuple[int, ...]:
    """Read ``96`` or ``96x128`` (height x width)."""
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2):
        raise click.BadParameter(
            f"{text!r} is neither a number of pixels, such as 96, nor HEIGHTxWIDTH, such as 96x128"
        )
    return sides[0] if len(sides) == 1 else sides


def _click_option(name: str, option: Option) -> Callable[[Command], Command]:
    """The option of the command line for an entry of :data:`cnn_train.config.OPTIONS`."""
    flag = f"--{name.replace('_', '-')}"
    text = f"{option.help} Default: {option.default_text}."
    if option.rule is SWITCH:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=text)
    kind: Any = {int: click.INT, float: click.FLOAT}.get(option.rule.type, click.STRING)
    if option.rule.choices:
        kind = click.Choice(option.rule.choices)
    elif option.rule is FOLDER:
        kind = click.Path(file_okay=False)
    elif option.rule is SIZE:
        kind = _size
    elif option.rule is COLUMNS:
        return click.option(flag, type=(str, str), metavar=option.metavar, help=text)
    return click.option(flag, type=kind, metavar=option.metavar, help=text)


def _table_options(command: Command) -> Command:
    """Add all options of the table but DATA, which is the argument."""
    for name, option in reversed([*OPTIONS.items()]):  # click lists the decorator that is applied last first
        if name != "data":
            command = _click_option(name, option)(command)
    return command


@click.command("cnn-train", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("data", nargs=-1)
@_table_options
@click.option(
    "--config",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Read options from a TOML file, such as the config.toml of a run. Options of the command line win.",
)
@click.option(
    "--out", type=click.Path(file_okay=False), metavar="DIR", help="Run folder. Default: runs/TIMESTAMP-DATA."
)
@click.option(
    "--test-pictures",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Also write the test split to this folder, as CLASS/NUMBER.png.",
)
@click.option(
    "--folds",
    type=int,
    metavar="K",
    help="Cross-validation: train K times, each time tested on another K-th of the pictures. Report mean and spread.",
)
@click.option(
    "--tune",
    type=int,
    metavar="N",
    help="Search with N trainings for a better learning rate, weight decay, augmentation and network.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Train nothing. Each DATA is a run folder or an exported .onnx file: classify the same test split with all of "
    "them, with paired statistics.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Train nothing. Check DATA for unreadable files, copies, near duplicates and unusual pictures, and write the "
    "findings to --out. With --strict, problems end in exit code 1. With --run, also labels that its network doubts.",
)
@click.option("--data", "moved", metavar="PATH", help="With --compare: new place of the data set, if it has moved.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    help="With --compare and --check: format of the result. Default: table.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --compare: also write everything to this file, as JSON, with the pictures that are classified "
    "differently.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Also write the result to this file, as a web page that opens offline: curves, classes, confidence, the worst "
    "mistakes. With --compare: the comparison.",
)
@click.option(
    "--run",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="With --html: train nothing, write the page of this finished run. With --check: the run, or cross-validation, "
    "whose networks judge the labels. DATA is the new place of its data set, if it has moved.",
)
@click.option("--resume", is_flag=True, help="Continue the training in --out, or the newest unfinished one in runs/.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in --out, and the files in --test-pictures.")
@click.version_option(package_name="cnn-train")
def command(data: tuple[str, ...], **options: Any) -> None:
    """Train a network on pictures. Write its weights, metrics and plots to a run folder.

    DATA is digits (default), mnist, fashion-mnist, cifar10, a folder, or a labels file. A folder has one subfolder per
    class; or train/, optionally val/ and test/, with one subfolder per class in each; or IDX files like those of MNIST.
    A labels file (CSV or JSON lines) beside the pictures has the path and the class of each. A folder may be an archive
    (zip, tar, tar.gz).
    """
    given = {key: value for key, value in options.items() if value is not None}
    if given.pop("compare"):
        _compare(data, given)
        return
    if given.pop("check"):
        _check(data, given)
        return
    if unused := [_flag(name) for name in COMPARE_OPTIONS if name in given]:
        raise click.UsageError(f"no effect without --compare: {', '.join(unused)}")
    if "form" in given:
        raise click.UsageError("no effect without --compare or --check: --format")
    if "run" in given:
        _page_of_run(data, given)
        return
    if len(data) > 1:
        raise click.UsageError(f"one data set is trained on, not {len(data)}: {' '.join(data)}")
    given.update({} if not data else {"data": data[0]})
    # importing PyTorch takes seconds: --help and values that are not accepted are answered before
    checked({key: value for key, value in given.items() if key in OPTIONS})
    alone = {"folds": ("test_pictures", "tune", "html"), "tune": ("test_pictures", "resume", "html")}
    for mode, without in alone.items():
        if mode in given:
            _refuse_others(given, [name for name in given if name not in without], f"--{mode}")
    with while_loading("cnn-train"):
        from cnn_train import distributed
        from cnn_train.cross_validation import cross_validate
        from cnn_train.training import train
        from cnn_train.tuning import tune
    if "folds" in given:
        cross_validate(**given)
    elif "tune" in given:
        tune(trials=given.pop("tune"), **{key: value for key, value in given.items() if key != "resume"})
    elif "html" in given:
        from cnn_train.destinations import check_results
        from cnn_train.page.training_page import write_page

        file = given.pop("html")
        folder = [given["out"]] if "out" in given else []
        check_results(html=file, runs=folder, read=[given.get("data"), given.get("config")])
        run = train(**given)
        if not distributed.launched_by_torchrun() or os.environ["RANK"] == "0":  # the process group has ended
            write_page(run, file)
            console.message(f"wrote {printable(file)}")
    else:
        train(**given)


def _flag(name: str) -> str:
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def _refuse_others(given: dict[str, Any], allowed: Iterable[str], mode: str) -> None:
    """Refuse the options that are given and have no effect in a mode.

    Raises:
        click.UsageError: there is one that is not in ``allowed``.
    """
    # a flag is False if it is not given, except a switch of the table, which is None then
    known = {name for name, value in given.items() if value is not False or name in OPTIONS}
    if useless := [_flag(name) for name in given if name in known and name not in allowed]:
        raise click.UsageError(f"no effect with {mode}: {', '.join(useless)}")


def _compare(runs: tuple[str, ...], given: dict[str, Any]) -> None:
    _refuse_others(given, (*COMPARE_OPTIONS, "form", "html"), "--compare")
    console.check_standard_output()
    with while_loading("cnn-train"):
        from cnn_train.comparison import compare
        from cnn_train.comparison_table import text
        from cnn_train.destinations import check_results
    check_results(report=given.get("report"), html=given.get("html"), runs=runs, read=[given.get("moved")])
    found = compare(runs, data=given.get("moved"))
    click.echo(text(found, given.get("form", "table")))
    if "report" in given:
        write_text(given["report"], found.to_json() + "\n")
        console.message(f"wrote {printable(given['report'])}")
    if "html" in given:
        from cnn_train.page.comparison_page import write_comparison

        write_comparison(found, given["html"], runs, data=given.get("moved"))
        console.message(f"wrote {printable(given['html'])}")


def _check(data: tuple[str, ...], given: dict[str, Any]) -> None:
    allowed = {"run", "out", "overwrite", "form", *OPTIONS}  # cnn_train.checking refuses others of the table
    _refuse_others(given, allowed, "--check")
    if len(data) > 1:
        raise click.UsageError(f"one data set is checked, not {len(data)}: {' '.join(data)}")
    options = {name: value for name, value in given.items() if name in allowed}
    form, strict = options.pop("form", "table"), options.pop("strict", False)
    checked({name: value for name, value in options.items() if name in OPTIONS})
    console.check_standard_output()
    with while_loading("cnn-train"):
        from cnn_train.checking.doctor import check
    found = check(data[0] if data else None, **options)
    print_text(found.text(form))
    if strict and found.problems:
        raise CheckError(f"{console.quantity(found.problems, 'problem')}, and --strict is set: {found.path}")


def _page_of_run(data: tuple[str, ...], given: dict[str, Any]) -> None:
    _refuse_others(given, ("run", "html"), "--run")
    if "html" not in given:
        raise click.UsageError("no effect without --html: --run")
    if len(data) > 1:
        raise click.UsageError(f"a run has one data set, not {len(data)}: {' '.join(data)}")
    with while_loading("cnn-train"):
        from cnn_train.page.training_page import write_page
    write_page(given["run"], given["html"], data=data[0] if data else None)
    console.message(f"wrote {printable(given['html'])}")


def main() -> None:
    """Entry point of the command."""
    console.main(command, _prints_errors)


def _prints_errors() -> bool:
    """Whether this process prints an error. Of several that torchrun started only the first one does."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from cnn_train import distributed

    return not distributed.launched_by_torchrun() or distributed.first_to_report()
