"""Checks of the command's options, before any work. An option that would have no effect is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cnn_infer.command.uploads import check_target
from cnn_infer.errors import InputError
from cnn_infer.paths.naming import printable

ROW_OPTIONS = (
    "--batch-size",
    "--threads",
    "--top",
    "--threshold",
    "--strangers",
    "--evidence",
    "--output",
    "--report",
    "--html",
    "--resume",
    "--max-pixels",
    "--max-bytes",
    "--strict",
    "--labels",
    "--truth",
    "--columns",
    "--follow-symlinks",
    "--ray",
    "--part-size",
)
"""Options that change rows or what is done with them."""

OTHER_MODES = ("--verify", "--info", "--latency", "--fleet", "--doctor")
"""Options that do something else than ``--judge``."""

NOT_ON_A_CLUSTER = ("--info", "--verify", "--certificate", "--latency", "--evidence")
"""Options that work on this machine alone."""

DOCTOR_OPTIONS = ("--doctor", "--model", "--device", "--device-option", "--format")
"""Options that have an effect with ``--doctor``."""


def is_model(path: str) -> bool:
    """Whether a PATH beside ``--judge`` is a model file; all others are pictures."""
    return path.lower().endswith(".onnx")


def is_pipe_or_device(path: Path | str) -> bool:
    """Whether the path exists and is no regular file: rows written to it are not kept for ``--resume``. No URL is."""
    return isinstance(path, Path) and path.exists() and not path.is_file()


def check_options(context: click.Context) -> None:
    """Refuse options that are incomplete or would have no effect.

    Raises:
        UsageError: the command has nothing to do, or nothing to do it on.
        InputError: an option on the command line would have no effect.
    """
    values = context.params
    paths, form, output = values["paths"], values["form"], values["output"]
    info, verify, latency, judge = values["info"], values["verify"], values["latency"], values["judge"]
    given = [
        param.opts[0]
        for param in context.command.params
        if context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
    ]
    if judge:
        _check_judge(given, paths, form)
    if values["doctor"] and not judge:
        _check_doctor(given, form)
        return
    if values["fleet"]:
        _check_fleet(given, paths, form)
        return
    if not judge and (models := list(filter(is_model, paths))):
        raise InputError(f"a model is named with --model: --model {printable(models[0])}")
    if "--certificate" in given and not (verify or judge):
        raise InputError("no effect without --verify or --judge: --certificate")
    if values["ray"] and not paths:
        raise InputError(f"--ray took {printable(values['ray'])!r} as its address: put PATH before --ray")
    if not (paths or info or verify or latency):
        raise click.UsageError("name a picture or a folder, or pass --verify or --info")
    if latency and not paths:
        raise click.UsageError("--latency is measured on pictures: name a picture or a folder")
    if paths.count("-") > 1:
        raise InputError("- is named twice: standard input can be read only once")
    if "-0" in given and "-" not in paths:
        raise InputError("no effect without -: -0")
    if latency or not paths:
        modes = "--latency" if latency else " and ".join(["--info"] * info + ["--verify"] * verify)
        without_effect = [option for option in given if option in ROW_OPTIONS]
        if "--format" in given and not (info or latency):
            without_effect.append("--format")
        if without_effect:
            raise InputError(f"no effect with {modes}: {', '.join(without_effect)}")
    if form == "csv" and (info or latency):
        raise InputError(f"{'--info' if info else '--latency'} takes --format table or jsonl, not csv")
    _check_ray(given, values)
    if form == "table" and "--top" in given and values["ray"] is None:
        raise InputError("no effect with --format table: --top (pass --format jsonl or csv)")
    if "--columns" in given and "--truth" not in given:
        raise InputError("no effect without --truth: --columns")
    if "--truth" in given and values["labels"] == "none":
        raise InputError("no effect with --labels none: --truth")
    if "--resume" in given and output is None:
        raise InputError("no effect without --output: --resume")
    if "--resume" in given and values["ray"] is None and is_pipe_or_device(output):
        raise InputError(f"no effect with --output {printable(output)}: --resume (a pipe or a device keeps no rows)")


def _check_ray(given: Sequence[str], values: Mapping[str, Any]) -> None:
    """Refuse options that need ``--ray``, and those that do not go with it."""
    form, output = values["form"], values["output"]
    if values["ray"] is None:
        if "--part-size" in given:
            raise InputError("no effect without --ray: --part-size")
        if form == "parquet":
            raise InputError("--format parquet needs --ray: its files are parts of a folder")
        if isinstance(output, Path) and output.is_dir():
            raise InputError(f"{printable(output)} is a folder: name a file with --output")
        return
    if not_here := [option for option in given if option in NOT_ON_A_CLUSTER]:
        raise InputError(f"not with --ray: {', '.join(not_here)} (for this machine alone: leave out --ray)")
    if output is None:
        raise InputError("--ray writes files into a folder: name it with --output")
    check_target(output)
    if form == "table" and "--format" in given:
        raise InputError("--ray takes --format parquet, jsonl or csv, not table")
    if values["threads"] == "auto":
        raise InputError("--ray takes a number of --threads, the CPUs of each actor, not auto")


def _check_doctor(given: Sequence[str], form: str) -> None:
    """Refuse options beside ``--doctor`` that would have no effect."""
    if without_effect := [name for name in given if name not in DOCTOR_OPTIONS]:
        raise InputError(f"no effect with --doctor: {', '.join('PATH' if n == 'paths' else n for n in without_effect)}")
    without_effect = [name for name in given if name in ("--device", "--device-option")]
    if without_effect and "--model" not in given:
        raise InputError(f"no effect with --doctor without --model: {', '.join(without_effect)}")
    if form not in ("table", "jsonl"):
        raise InputError(f"--doctor takes --format table or jsonl, not {form}")


def _check_fleet(given: Sequence[str], paths: Sequence[str], form: str) -> None:
    """Refuse options beside ``--fleet`` that would have no effect."""
    if not paths:
        raise click.UsageError("--fleet sums up certificates: name them, a folder or a pattern")
    without_effect = [name for name in given if name not in ("paths", "--fleet", "--model", "--format")]
    if without_effect:
        raise InputError(f"no effect with --fleet: {', '.join(without_effect)}")
    if form == "parquet":
        raise InputError("--fleet takes --format table, jsonl or csv, not parquet")


def _check_judge(given: Sequence[str], paths: Sequence[str], form: str) -> None:
    """Refuse options beside ``--judge`` that would have no effect."""
    if not any(map(is_model, paths)):
        raise click.UsageError("--judge compares the files of one export: name them, model.onnx and model.int8.onnx")
    others = (*ROW_OPTIONS, "--model", "--device-option", *OTHER_MODES)
    without_effect = [option for option in given if option in others]
    if without_effect:
        raise InputError(f"no effect with --judge: {', '.join(without_effect)}")
    if form not in ("table", "jsonl"):
        raise InputError(f"--judge takes --format table or jsonl, not {form}")
