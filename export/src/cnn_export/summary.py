"""What ``cnn-export`` prints: the summary of an export, and the table of ``--explain``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnn_infer.console import quantity
from cnn_infer.explanation import cells_text
from cnn_infer.guarantee import percent
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CANDIDATES, EXPORT_REPORT, FP32_MODEL

from cnn_export.half import FP16, Half

if TYPE_CHECKING:
    from cnn_export.confidence import Confidence
    from cnn_export.evidence import EvidenceProof
    from cnn_export.explain import Stage
    from cnn_export.export_result import Export
    from cnn_export.int8.report import Int8
    from cnn_export.strangers import Strangers

MOST_STRAYS = 5
"""Unintended fp32 nodes that are listed; the report has all of them."""


def export_lines(result: Export) -> list[str]:
    """Return the lines about a finished export."""
    folder, parity = printable(result.folder), result.parity
    flipped = {flip["picture"] for flip in parity.flips}  # each batch size lists its own flips
    lines = [
        f"{'run   ' if result.run else 'folder'}         {folder}",
        *(f"note           {note}" for note in result.notes),
        f"parity         passed: PyTorch and {FP32_MODEL} agree on {quantity(parity.images, 'test picture')}",
        f"  batch sizes  {', '.join(map(str, parity.batch_sizes))}",
        f"  logits       differ by at most {parity.logits['max']:.2g}, on average by {parity.logits['mean']:.2g}",
        f"  probability  differs by at most {parity.probabilities['max']:.2g} (tolerance {parity.tolerance:g})",
        f"  top-1        same class for {parity.top1_agreement:.4%} of the pictures, {quantity(len(flipped), 'flip')}",
        f"fp32           {result.accuracy:.2%} accuracy on the test split, {result.bytes / 1024:,.0f} KiB",
    ]
    lines += confidence_lines(result.confidence["fp32"])
    lines += evidence_lines(result.evidence.get("fp32"))
    lines += strangers_lines(result.strangers.get("fp32"))
    if result.half is not None:
        lines += half_lines(result.half)
        lines += [] if result.half.failed else confidence_lines(result.confidence[FP16])
    if result.int8 is not None:
        lines += [*int8_lines(result.int8), f"  plot         {folder}/{CANDIDATES}"]
        lines += confidence_lines(result.confidence["int8"])
        lines += evidence_lines(result.evidence.get("int8"))
        lines += strangers_lines(result.strangers.get("int8"))
    return [
        *lines,
        f"ships          {printable(result.ship)}",
        f"report         {folder}/{EXPORT_REPORT}",
        f"next step      {_next_step(result)}",
    ]


def confidence_lines(confidence: Confidence) -> list[str]:
    """Return the lines about the calibration of a file and its guarantee."""
    lines = []
    if confidence.calibration is not None:
        ece, brier = confidence.calibration["ece"], confidence.calibration["brier"]
        lines.append(f"  calibration  ECE {ece:.4f}, Brier score {brier:.4f} on the test split")
    if confidence.guarantee is not None:
        lines.append(f"  certified    {confidence.guarantee.text}")
        lines.append(f"               threshold {confidence.guarantee.threshold:g}: cnn-infer --threshold certified")
    elif confidence.refused:
        lines.append(f"  refused      {confidence.refused}")
    return lines


def evidence_lines(proof: EvidenceProof | None) -> list[str]:
    """Return the line about the evidence of a file, if it has that output."""
    if proof is None:
        return []
    return [
        f"  evidence     {cells_text(proof.cells, proof.sees)}; with the bias it sums to the logits within "
        f"{proof.largest_error:.2g} (tolerance {proof.tolerance:.2g})"
    ]


def strangers_lines(rule: Strangers | None) -> list[str]:
    """Return the lines about the rule for strangers of a file, if it has that output."""
    if rule is None:
        return []
    low, high = rule.interval
    interval = f"95% confidence interval {low:.2%} to {high:.2%}"
    return [
        f"  strangers    {rule.false_alarms:,} of {quantity(rule.test_pictures, 'test picture')} are false alarms: "
        f"{rule.false_alarm_rate:.2%} ({interval}, {percent(rule.rate)} asked for)",
        f"               strangeness above {rule.threshold:g}, chosen on "
        f"{quantity(rule.validation_pictures, 'validation picture')}: cnn-infer --strangers",
    ]


def _next_step(result: Export) -> str:
    if result.int8 is None or not result.int8.verdict.good_enough:
        return f"cnn-infer FOLDER, or copy {printable(result.ship)} to another machine"
    # whether int8 is faster depends on the machine, and both files are proven
    both = f"copy {FP32_MODEL} and {result.int8.file} to another machine and run there: "
    judge = f"{both}cnn-infer --judge {FP32_MODEL} {result.int8.file}"
    return f"cnn-infer FOLDER, or {judge}" if result.int8.latency else judge


def half_lines(half: Half) -> list[str]:
    """Return the lines about the fp16 model."""
    title = f"{half.file}, {half.bytes / 1024:,.0f} KiB, for GPUs: a CPU computes it in fp32, no faster"
    return [
        f"fp16           {f'FAILED, no {half.file}: {half.failed}' if half.failed else title}",
        f"  test split   accuracy {half.accuracy_fp16:.2%} (fp32 {half.accuracy_fp32:.2%}), "
        f"{quantity(half.flips, 'flip')}",
        f"  logits       differ by at most {half.logits['relative']:.2g} of the largest one (tolerance "
        f"{half.tolerance:.2g}: {quantity(half.roundings, 'rounding')} to fp16)",
        f"  probability  differs by at most {half.probabilities['max']:.2g}",
        *(f"  kept in fp32: {name}: {reason}" for name, reason in half.floats.items()),
    ]


def int8_lines(int8: Int8) -> list[str]:
    """Return the lines about the int8 model and the candidates of its search."""
    test = int8.test
    low, high = test.drop_interval
    tried = quantity(len(int8.candidates), "candidate")
    untried = int8.planned - len(int8.candidates)
    return [
        f"int8           {tried}, {int8.search_seconds:.0f} s, for {int8.target} processors"
        + (f"; {untried:,} more not tried: out of time" if untried > 0 else ""),
        *_candidate_table(int8),
        *([f"  ended early  {int8.ended_early}"] if int8.ended_early else []),
        f"  best         {int8.recipe}",
        *(f"  kept in fp32: {name}" for name in int8.floats),
        *(f"  not in int8: {stray}" for stray in int8.strays[:MOST_STRAYS]),
        *(
            [f"  not in int8: {quantity(more, 'more node')}, listed in {EXPORT_REPORT}"]
            if (more := len(int8.strays) - MOST_STRAYS) > 0
            else []
        ),
        f"  test split   accuracy {test.accuracy_int8:.2%} (fp32 {test.accuracy_fp32:.2%}), "
        f"macro F1 {test.macro_f1_int8:.4f} (fp32 {test.macro_f1_fp32:.4f}), {quantity(test.flips, 'flip')}",
        f"               {test.drop_points:+.2f} points lost (95% confidence interval {low:+.2f} to {high:+.2f}), "
        f"McNemar p {test.mcnemar_p:.2f}",
        f"  size         {int8.bytes / 1024:,.0f} KiB",
        *(
            f"  batch {entry.batch_size:<6} {entry.fp32_ms:.3f} ms in fp32, {entry.int8_ms:.3f} ms in int8: "
            f"{entry.speedup:.2f}x as fast (one thread)"
            for entry in int8.latency
        ),
        *([] if int8.latency else [f"  speed        {int8.speed}"]),
        f"  verdict      {_verdict(int8)}: {int8.verdict.reason}",
    ]


def _verdict(int8: Int8) -> str:
    if int8.verdict.ships:
        return "ships"
    return "does NOT ship" if int8.verdict.rejected else "accurate enough"


def _candidate_table(int8: Int8) -> list[str]:
    speeds = " ".join(f"{f'batch {entry.batch_size}':>9}" for entry in int8.latency)
    return [
        f"    {'candidate, on the validation split':<42} {'points lost':>11} {'KL divergence':>13} {speeds}".rstrip(),
        *(
            (
                f"  {'*' if candidate.name == int8.recipe else ' '} {candidate.name:<42} "
                f"{candidate.validation.drop_points:+11.2f} {candidate.divergence:13.2g} "
                + " ".join(f"{entry.speedup:8.2f}x" for entry in candidate.latency)
            ).rstrip()
            for candidate in int8.candidates
        ),
    ]


def stage_lines(stages: list[Stage]) -> list[str]:
    """Return the table of ``--explain``."""
    width = max(len(stage.name) for stage in stages)
    return [
        f"{'stage':<{width}}  {'SNR':>9}  {'largest':>8}  compared",
        *(f"{stage.name:<{width}}  {_snr_text(stage):>9}  {stage.largest:8.2g}  {stage.note}" for stage in stages),
    ]


def _snr_text(stage: Stage) -> str:
    if math.isinf(stage.snr):
        return "the same" if stage.snr > 0 else "DIFFERENT"
    return f"{stage.snr:.1f} dB"
