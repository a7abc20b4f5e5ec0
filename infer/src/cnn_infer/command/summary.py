"""The summary that the command prints to standard error after the rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_infer.console import quantity
from cnn_infer.drift import Drift
from cnn_infer.evaluation import Report
from cnn_infer.paths.naming import printable
from cnn_infer.paths.skipped import skipped_text

MOST_PRINTED_CLASSES = 20
"""With more classes, the confusion matrix is not printed."""

MOST_PRINTED_FOLDERS = 10
"""Most folders without the name of a class that are printed. The report file has all."""


def summary(report: Report, files: Sequence[Path | str], *, only_files: bool) -> list[str]:
    """Return the lines of the summary: counts, speed, accuracy, and the files written. Names are not escaped.

    Args:
        report: What was counted and measured.
        files: The files that were written, or their URLs.
        only_files: Whether every path is a picture file, not a folder, pattern or list. Then a missing accuracy is no
            surprise, and is not reported.
    """
    model, total = report.latency_ms["model"], report.latency_ms["total"]
    good = report.images - report.errors
    lines = [f"{quantity(good, 'picture')} classified, {report.errors:,} could not be read"]
    if good:
        lines.append(
            f"{report.images_per_second:,.0f} pictures/s on {quantity(report.threads, 'thread')}; "
            f"median latency {total['p50']:.2f} ms per picture (p99 {total['p99']:.2f}), "
            f"of which the model takes {model['p50']:.3f} ms (p99 {model['p99']:.3f})"
        )
    lines += findings(report)
    if report.accuracy is not None and report.per_class is not None:
        width = max(len("class"), *(len(name) for name in report.per_class))
        lines += [
            f"accuracy {report.accuracy:.2%}, macro F1 {report.macro_f1:.4f}, weighted F1 {report.weighted_f1:.4f} "
            f"on {quantity(report.labelled, 'labelled picture')} (coverage {report.coverage:.2%})",
            *([calibration_line(report.calibration)] if report.calibration is not None else []),
            f"  {'class':<{width}}  precision  recall      f1  support",
        ]
        lines += [
            f"  {name:<{width}}  {row['precision']:>9.4f}  {row['recall']:>6.4f}  {row['f1']:>6.4f}"
            f"  {row['support']:>7,}"
            for name, row in report.per_class.items()
        ]
        lines += _confusion_lines(report)
    lines += remarks(report, only_files=only_files)
    return lines + [f"wrote {printable(file)}" for file in files]


def findings(report: Report) -> list[str]:
    """Return what was promised of the answers and whether it held, and how many pictures are strangers."""
    lines = [] if report.guarantee is None else guarantee_lines(report.guarantee)
    if report.strangers is not None and report.images > report.errors:
        lines.append(
            f"{quantity(report.strangers['images'], 'stranger')}, nothing like the training pictures: "
            f"{report.strangers['share']:.2%} of the pictures; of pictures like those of training, "
            f"{report.strangers['rate']:.2%} are expected by chance"
        )
    return lines


def remarks(report: Report, *, only_files: bool) -> list[str]:
    """Return what is not counted or missing, and whether the pictures are like those of validation.

    The arguments are those of :func:`summary`.
    """
    lines = []
    if report.accuracy is not None:
        if report.unknown_folders:
            lines.append(f"folders without the name of a class, not counted: {_folders(report)}")
        lines += _truth_lines(report)
        if report.missing_classes:
            lines.append(f"classes without a picture: {', '.join(report.missing_classes)}")
    elif report.truth is not None:
        lines += ["no accuracy: no picture has a label that is a class", *_truth_lines(report)]
    elif report.unknown_folders and not only_files:
        lines.append(f"no accuracy: none of the folders has the name of a class: {_folders(report)}")
    if report.drift is not None and report.drift.differs:
        lines.append(_drift_line(report.drift))
    if left_out := skipped_text(report.skipped):
        lines.append(f"left out: {left_out}")
    return lines


def guarantee_lines(guarantee: dict[str, Any]) -> list[str]:
    """Return what the model promises of its answers, and whether it held on these pictures."""
    promise = f"promised: {guarantee['promise']['text']}"
    if guarantee["coverage"] is None:
        return [promise]
    answered = f"{guarantee['coverage']:.1%} of these pictures answered"
    if guarantee["error"] is None:
        return [promise, answered]
    low, high = guarantee["interval"]
    return [
        promise,
        f"{guarantee['verdict']}: {answered}; {guarantee['wrong']:,} of {quantity(guarantee['labelled'], 'answer')} "
        f"with a label wrong, {guarantee['error']:.2%} (95% confidence interval {low:.2%} to {high:.2%})",
    ]


def calibration_line(calibration: dict[str, Any]) -> str:
    """Return the calibration in one line."""
    return f"calibration error (ECE) {calibration['ece']:.4f}, Brier score {calibration['brier']:.4f}"


def _drift_line(drift: Drift) -> str:
    if drift.direction == "less sure":
        advice = "check some rows: another camera, light or kind of object needs training with such pictures"
    else:
        advice = "check some rows: the model may be wrong and sure"
    p = f"p {drift.p:.2g}" if drift.p >= 1e-6 else "p < 1e-6"
    return (
        f"not like the validation pictures: the model is {drift.direction} of these, by more than chance "
        f"(Kolmogorov-Smirnov D {drift.statistic:.2f}, {p}, n {drift.images:,} and {drift.validation_images:,}); "
        f"{advice}; another mix of classes has this effect too"
    )


def _truth_lines(report: Report) -> list[str]:
    """What the labels file and the pictures lack of each other, not counted in the accuracy."""
    if report.truth is None:
        return []
    lines = []
    file, others = report.truth["file"], report.truth["other_labels"]
    if report.truth["without_row"]:
        lines.append(f"{quantity(report.truth['without_row'], 'picture')} without a label in {file}, not counted")
    if others:
        shown = ", ".join(f"{label} ({count:,})" for label, count in list(others.items())[:MOST_PRINTED_FOLDERS])
        more = f" and {len(others) - MOST_PRINTED_FOLDERS:,} more" if len(others) > MOST_PRINTED_FOLDERS else ""
        lines.append(f"labels that are no class of the model, not counted: {shown}{more}")
    if report.truth["without_picture"]:
        lines.append(f"{quantity(report.truth['without_picture'], 'label')} in {file} without a picture here")
    return lines


def _folders(report: Report) -> str:
    """The first folders without the name of a class, with their numbers of pictures."""
    folders = list(report.unknown_folders.items())
    more = [f"and {len(folders) - MOST_PRINTED_FOLDERS:,} more"] if len(folders) > MOST_PRINTED_FOLDERS else []
    return ", ".join([f"{name} ({count:,})" for name, count in folders[:MOST_PRINTED_FOLDERS]] + more)


def _confusion_lines(report: Report) -> list[str]:
    """Return the confusion matrix, if it has at most :data:`MOST_PRINTED_CLASSES` rows. The report file has any."""
    if report.confusion is None or report.per_class is None or len(report.confusion) > MOST_PRINTED_CLASSES:
        return []
    width = max(5, len(str(max(map(max, report.confusion)))) + 1)
    names = list(report.per_class)
    first = max(len("true"), *(len(name) for name in names))
    head = "".join(f"{number:>{width}}" for number in range(len(names)))
    rows = zip(names, report.confusion, strict=True)
    return [
        f"  {'true':<{first}}  {head}  predicted class, numbered as the rows",
        *(f"  {name:<{first}}  {''.join(f'{count:>{width}}' for count in row)}" for name, row in rows),
    ]
