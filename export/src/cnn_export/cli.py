"""The command ``cnn-export``: from a run folder to an exported model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from cnn_infer import console
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import EXPORT_REPORT
from cnn_infer.system.interrupt import while_loading

from cnn_export.errors import ExportError, GuaranteeError, ParityError
from cnn_export.options import OPTIONS, Option, not_with_half, without_effect

EXAMPLES = """\b
Examples:
  cnn-export                                   export the newest run under runs/ to fp32
  cnn-export --quantize                        also make and evaluate an int8 model
  cnn-export --half                            also make an fp16 model for GPUs
  cnn-export --max-error 1%                    also certify a threshold below which the model does not answer
  cnn-export runs/photos --data /mnt/photos    the data set of the run has moved
  cnn-export runs/photos --explain             find out where an exported model differs
  cnn-export runs/photos --vectors vectors     write files to test a reader in another language with
  cnn-export --quantize --web page             also write a page that classifies pictures in a browser
  cnn-export --quantize --triton models        also write a model repository for NVIDIA Triton and KServe
Next step: cnn-infer FOLDER
"""

Command = TypeVar("Command", bound=Callable[..., Any])


class Share(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.4 on
    """A share between 0 and 1, as ``1%`` or ``0.01``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it as a number."""
        text = str(value).strip()
        try:
            found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = 0.0
        if not 0 < found < 1:
            meant = f"; did you mean {text}%?" if 1 <= found < 100 and not text.endswith("%") else ""
            reason = f"{text!r} is neither a percentage, such as 1%, nor a share between 0 and 1, such as 0.01{meant}"
            self.fail(reason, param, ctx)
        return found


def _click_option(name: str, option: Option) -> Callable[[Command], Command]:
    """The option of the command line for an entry of :data:`cnn_export.options.OPTIONS`."""
    if option.type is bool:
        return click.option(option.flag, name, is_flag=True, help=option.help)
    text = option.help if option.default is not None else f"{option.help} Default: {option.default_text}."
    kind: Any
    if option.choices:
        kind = click.Choice(option.choices)
    elif option.share:
        kind = Share()
    elif option.type is int:
        kind = click.IntRange(option.least, option.most)
    else:
        kind = click.FloatRange(option.least, option.most)
    metavar = "SHARE" if option.share else {int: "N", float: "X"}.get(option.type)
    if option.without_value is not None:
        return click.option(
            option.flag,
            name,
            type=kind,
            metavar=f"[{metavar}]",
            is_flag=False,
            flag_value=option.without_value,
            help=text,
        )
    shown = option.default is not None
    return click.option(
        option.flag, name, type=kind, metavar=metavar, default=option.default, show_default=shown, help=text
    )


def _table_options(command: Command) -> Command:
    """Add all options of the table."""
    for name, option in reversed(OPTIONS.items()):  # click lists the decorator that is applied last first
        command = _click_option(name, option)(command)
    return command


@click.command("cnn-export", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", required=False, type=click.Path(path_type=str))
@click.option("--data", metavar="PATH", help="New place of the run's data set, if it has moved.")
@_table_options
@click.option(
    "--explain",
    is_flag=True,
    help="Export nothing. Compare each stage of an exported model with training, and list the signal-to-noise ratios "
    "(SNR), the lowest first.",
)
@click.option(
    "--vectors",
    metavar="DIR",
    help="Export nothing. Write conformance vectors of an exported model into a new folder: picture files, their "
    "pixels after each stage and the outputs of the model, to test a reader in another language with.",
)
@click.option(
    "--web",
    metavar="DIR",
    help="Write a page into a new folder: a static site that classifies pictures in a browser, to the same pixels as "
    "cnn-infer, without sending them anywhere. With options of an export, such as --quantize: export first. Without "
    "them: the page of what is exported already.",
)
@click.option(
    "--triton",
    metavar="DIR",
    help="Write a model repository for NVIDIA Triton and KServe into a new folder, with the model that ships, or, with "
    "--half, the fp16 model. With options of an export: export first. Without them: the repository of what is exported "
    "already.",
)
@click.version_option(package_name="cnn-export")
def command(
    run: str | None,
    data: str | None,
    explain: bool,
    vectors: str | None,
    web: str | None,
    triton: str | None,
    **options: Any,
) -> None:
    """Export a trained network to one ONNX file, and check that it computes what was trained.

    RUN is a run folder; without it, the newest run under runs/. Each test picture is decoded from its file again and
    classified by PyTorch and by the exported file. If the results differ, nothing is exported and the exit code is 1.
    """
    context = click.get_current_context()
    given = [name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    folders = {"--vectors": vectors, "--web": web, "--triton": triton}
    chosen = {"--explain": explain, **{flag: folder is not None for flag, folder in folders.items()}}
    modes = [flag for flag, is_chosen in chosen.items() if is_chosen]
    if len(modes) > 1:
        raise ExportError(f"{modes[0]} and {modes[1]} exclude each other: pass one of them")
    if explain:
        _refuse("with --explain", given)
    if vectors is not None:
        _refuse("with --vectors", given)
        if data is not None:
            raise ExportError("no effect with --vectors: --data")
    _refuse("without --quantize", without_effect(given, quantize=options["quantize"]))
    if excluded := not_with_half(options):
        flags = " and ".join(OPTIONS[name].flag for name in excluded)
        raise ExportError(f"--half excludes {flags}: an fp16 model does not have that output")
    if data is not None and not given and (web is not None or triton is not None):
        raise ExportError(f"no effect with {modes[0]} alone: --data")
    console.check_standard_output()  # the summary goes there
    # importing PyTorch takes seconds: --help and options that are not accepted are answered before
    if explain:
        with while_loading("cnn-export"):
            from cnn_export.explain import explain as compare_stages
            from cnn_export.summary import stage_lines

        click.echo("\n".join(stage_lines(compare_stages(run, data=data))))
        return
    if vectors is not None:
        with while_loading("cnn-export"):
            from cnn_export.vectors.write import vectors_line, write_vectors

        click.echo(vectors_line(write_vectors(vectors, run)))
        return
    write = _writer(web, triton, options["half"])
    if write is not None and not given:
        click.echo(write(run))
        return
    with while_loading("cnn-export"):
        from cnn_export.exporting import export
        from cnn_export.summary import export_lines

    result = export(run, data=data, **options)
    click.echo("\n".join(export_lines(result)))
    if write is not None and not (triton is not None and result.half and result.half.failed):
        click.echo(write(result.folder))
    if result.half is not None and result.half.failed:
        evidence = printable(result.folder / EXPORT_REPORT)
        raise ParityError(f"{result.half.failed}; {result.half.file} was not written, the evidence is in {evidence}")
    # nobody is to use a rejected int8 model, so it needs no guarantee
    unused = {"int8"} if result.int8 is not None and result.int8.verdict.rejected else set()
    missing = [name for name, found in result.confidence.items() if found.refused and name not in unused]
    if missing:  # the summary has the reasons of all
        raise GuaranteeError(f"{missing[0]}: {result.confidence[missing[0]].refused}", None)


def _writer(web: str | None, triton: str | None, half: bool) -> Callable[[str | Path | None], str] | None:
    """Check the folder of --web or --triton. The result writes it for a run, and returns the line to print."""
    if web is not None:
        with while_loading("cnn-export"):
            from cnn_export.web.site import check_site, site_line, write_site

        check_site(web)
        return lambda run: site_line(write_site(web, run))
    if triton is not None:
        with while_loading("cnn-export"):
            from cnn_export.new_folder import check_new_folder
            from cnn_export.triton import repository_line, write_repository

        check_new_folder(triton)
        return lambda run: repository_line(write_repository(triton, run, half=half))
    return None


def _refuse(reason: str, names: Iterable[str]) -> None:
    flags = [option.flag for name, option in OPTIONS.items() if name in names]
    if flags:
        raise ExportError(f"no effect {reason}: {', '.join(flags)}")


def main() -> None:
    """Run the command ``cnn-export`` and exit with its code."""
    console.main(command)
