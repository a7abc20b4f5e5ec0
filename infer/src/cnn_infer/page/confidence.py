"""The charts of confidence: reliability (of answers with 90%, are 90% right?), and coverage against error.

In the literature these are the reliability diagram and the risk-coverage curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnn_infer.highlights import Selection
from cnn_infer.metrics import wilson_interval
from cnn_infer.page.charts import Chart, Dot, horizontal, line, vertical

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""The rows of the table of coverage and error."""


@dataclass(frozen=True)
class Bin:
    """Pictures with similar top probabilities: their number, mean probability, accuracy and its 95% interval."""

    count: int
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Answered:
    """A threshold, the share of pictures that reach it, and the share of wrong answers with its 95% interval."""

    threshold: float
    coverage: float
    answered: int
    wrong: int
    error: float
    low: float
    high: float


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _fine_percent(value: float) -> str:
    return f"{100 * value:g}%"


def reliability(calibration: Mapping[str, Any], name: str = "reliability") -> tuple[Chart, list[Bin]]:
    """Return the reliability chart and the rows of its table.

    Args:
        calibration: A result of :meth:`cnn_infer.calibration.Calibration.results`.
        name: Identifier of the chart.
    """
    bins = []
    for row in calibration["bins"]:
        if row["count"]:
            low, high = wilson_interval(round(row["accuracy"] * row["count"]), row["count"])
            bins.append(Bin(row["count"], row["confidence"], row["accuracy"], low, high))
    x_axis, y_axis = horizontal(0, 1), vertical(0, 1)
    apart = max(bins, key=lambda row: row.count * abs(row.accuracy - row.confidence))
    chart = Chart(
        name=name,
        title="Reliability",
        summary=f"Expected calibration error {calibration['ece']:.4f}. The answers with a mean probability of "
        f"{apart.confidence:.1%} weigh most in it: {apart.accuracy:.1%} of these {apart.count:,} are right.",
        x_label="top probability",
        y_label="share that is right",
        x_ticks=x_axis.ticks(_percent, 5),
        y_ticks=y_axis.ticks(_percent, 5),
        lines=[line("right as often as it says", [(0, 0), (1, 1)], x_axis, y_axis, "guide")],
        dots=[Dot(x_axis(row.confidence), y_axis(row.accuracy), y_axis(row.low), y_axis(row.high)) for row in bins],
    )
    return chart, bins


def coverage(selections: Iterable[Selection]) -> tuple[Chart, list[Answered]] | None:
    """Return the chart of the error against the coverage, and the rows of its table; None without a labelled picture.

    Args:
        selections: From the surest answers to all of them, as :meth:`cnn_infer.highlights.Highlights.selections`.
    """
    found = list(selections)
    if not found:
        return None
    total = found[-1].answered
    points = [(one.answered / total, one.wrong / one.answered) for one in found]
    # the first few answers give a share of 0 or 1: the axis ends at the highest error of at least a tenth of them
    highest = max(error for share, error in points if share >= 0.1)
    x_axis, y_axis = horizontal(0, 1), vertical(0, max(1.15 * highest, 0.01))
    rows = []
    for wanted in COVERAGES:
        one = next(one for one in found if one.answered >= wanted * total)
        rows.append(
            Answered(
                one.threshold,
                one.answered / total,
                one.answered,
                one.wrong,
                one.wrong / one.answered,
                *wilson_interval(one.wrong, one.answered),
            )
        )
    rows = list(dict.fromkeys(rows))
    best = min(rows, key=lambda row: abs(row.coverage - 0.9))
    chart = Chart(
        name="coverage",
        title="Coverage against error",
        summary=f"Answering all pictures, {points[-1][1]:.2%} of the answers are wrong; answering the surest "
        f"{best.coverage:.1%}, {best.error:.2%} are.",
        x_label="share of pictures that are answered",
        y_label="wrong answers",
        x_ticks=x_axis.ticks(_percent, 5),
        y_ticks=y_axis.ticks(_fine_percent, 5),
        lines=[line("", points, x_axis, y_axis)],
    )
    return chart, rows
