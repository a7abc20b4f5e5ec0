"""The command ``cnn-export``: a run folder to a proven model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click
from cnn_infer import console
from cnn_infer.paths.naming import printable
from cnn_infer.system.interrupt import while_loading

if TYPE_CHECKING:
    from cnn_export.explain import Stage
    from cnn_export.exporting import Export
    from cnn_export.int8.report import Int8

EXAMPLES = """\b
Examples:
  cnn-export --quantize                        the newest run under runs/
  cnn-export runs/20260101-120000-digits --data /mnt/pictures
Then: cnn-infer FOLDER
"""

MOST_STRAYS = 5


@click.command("cnn-export", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", required=False, type=click.Path(path_type=str))
@click.option("--quantize", is_flag=True, help="Also make model.int8.onnx; it ships only if it is as good and faster.")
@click.option("--data", help="Where the run's data set lies now. Default: where it was.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=1e-4,
    show_default=True,
    help="Largest difference of a probability between PyTorch and the file.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    help="Validation accuracy that int8 may lose, in percentage points. Default: 0.1, or one net picture if more.",
)
@click.option(
    "--golden",
    type=click.IntRange(0, 8),
    default=8,
    show_default=True,
    help="Test pictures to carry inside for cnn-infer --verify; 0 where they are private.",
)
@click.option(
    "--calibration",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Training pictures that the int8 ranges come from.",
)
@click.option(
    "--search-seconds",
    type=click.FloatRange(0),
    default=120,
    show_default=True,
    help="How long to look for the best int8 form; one is always tried.",
)
@click.option(
    "--for",
    "target",
    type=click.Choice(["vnni", "avx2", "arm", "generic"]),
    help="Processors that int8 is for. Default: those of this machine's kind.",
)
@click.option("--qat", is_flag=True, help="With --quantize: also fine-tune the best int8 form under its own rounding.")
@click.option(
    "--opset",
    type=click.IntRange(18),
    default=20,
    show_default=True,
    help="Version of ONNX's operators to write.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Export nothing: show which stage of what was exported differs from training, the worst first.",
)
@click.version_option(package_name="cnn-export")
def command(
    run: str | None,
    quantize: bool,
    data: str | None,
    tolerance: float,
    max_drop: float | None,
    golden: int,
    calibration: int,
    search_seconds: float,
    target: str | None,
    qat: bool,
    opset: int,
    explain: bool,
) -> None:
    """Export a trained network to one ONNX file and prove that it is the same network.

    RUN is a run folder; the newest under runs/ if left out. Every test picture is decoded from its file again
    and goes through PyTorch and through the exported file; if they differ, nothing is exported and the
    command leaves with 1.
    """
    # torch takes seconds to import: --help and mistyped options need not wait for it
    if explain:
        with while_loading("cnn-export"):
            from cnn_export.explain import explain as stages_of

        click.echo("\n".join(_stage_lines(stages_of(run, data=data))))
        return
    with while_loading("cnn-export"):
        from cnn_export.exporting import export

    result = export(
        run,
        quantize=quantize,
        data=data,
        tolerance=tolerance,
        max_drop=max_drop,
        golden_pictures=golden,
        calibration_pictures=calibration,
        search_seconds=search_seconds,
        target=target,
        qat=qat,
        opset=opset,
    )
    click.echo("\n".join(_lines(result)))


def _lines(result: Export) -> list[str]:
    parity = result.parity
    lines = [
        f"run            {printable(result.run.path)}",
        f"parity         passed on {parity.images:,} test pictures at batch {', '.join(map(str, parity.batch_sizes))}",
        f"  logits       differ by at most {parity.logits['max']:.2g}, {parity.logits['mean']:.2g} on average",
        f"  probabilities differ by at most {parity.probabilities['max']:.2g} (tolerance {parity.tolerance:g})",
        f"  top-1        agrees on {parity.top1_agreement:.4%}, {len(parity.flips)} flips",
        f"fp32           {result.accuracy:.2%} accuracy, {result.bytes / 1024:,.0f} KiB",
    ]
    if result.int8 is not None:
        lines += _int8_lines(result.int8)
        lines.append(f"  candidates   {printable(result.run.path)}/candidates.png")
    lines += [f"ships          {printable(result.ship)}", f"wrote          {printable(result.run.path)}/export.json"]
    return [*lines, "next           cnn-infer FOLDER, or copy what ships to the box"]


def _stage_lines(stages: list[Stage]) -> list[str]:
    width = max(len(stage.name) for stage in stages)
    return [
        f"{'stage':<{width}}  {'SNR':>9}  {'largest':>8}  compared",
        *(f"{stage.name:<{width}}  {_noise(stage):>9}  {stage.largest:8.2g}  {stage.note}" for stage in stages),
    ]


def _noise(stage: Stage) -> str:
    """A signal-to-noise ratio for people."""
    if math.isinf(stage.snr):
        return "the same" if stage.snr > 0 else "DIFFERENT"
    return f"{stage.snr:.1f} dB"


def _int8_lines(int8: Int8) -> list[str]:
    test = int8.test
    low, high = test.drop_interval
    table = [
        f"  {'*' if candidate.name == int8.recipe else ' '} {candidate.name:<42}"
        f"{candidate.validation.drop_points:+7.2f} {candidate.divergence:9.2g} "
        + " ".join(f"{entry.speedup:7.2f}x" for entry in candidate.latency)
        for candidate in int8.candidates
    ]
    batches = " ".join(f"batch {entry.batch_size:<2}" for entry in int8.latency)
    left = f" of {int8.planned}: out of time" if int8.planned > len(int8.candidates) else ""
    return [
        f"int8           {len(int8.candidates)} candidates{left}, {int8.search_seconds:.0f} s, for {int8.target}",
        f"    {'on validation':<42}   drop divergence {batches}",
        *table,
        f"  chosen       {int8.recipe}",
        *(f"  in float     {name}, as the search left it" for name in int8.floats),
        *(f"  STILL FLOAT  {stray}" for stray in int8.strays[:MOST_STRAYS]),
        *(
            [f"  STILL FLOAT  {more:,} more nodes, in export.json"]
            if (more := len(int8.strays) - MOST_STRAYS) > 0
            else []
        ),
        f"               {test.accuracy_int8:.2%} accuracy, {int8.bytes / 1024:,.0f} KiB",
        f"  test         drop {test.drop_points:+.2f} points (95% interval {low:+.2f} to {high:+.2f}), "
        f"McNemar p {test.mcnemar_p:.2f}",
        f"               macro F1 {test.macro_f1_fp32:.4f} to {test.macro_f1_int8:.4f}, {test.flips} flips",
        *(
            f"  batch {entry.batch_size:<6} {entry.fp32_ms:.3f} ms to {entry.int8_ms:.3f} ms, {entry.speedup:.2f}x"
            " on one thread"
            for entry in int8.latency
        ),
        f"  verdict      {'ships' if int8.verdict.ships else 'NOT shipped'}: {int8.verdict.reason}",
    ]


def main() -> None:
    """Entry point of the command."""
    console.main(command)
