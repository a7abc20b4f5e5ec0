"""A scatter plot of the candidates of an int8 search: accuracy loss against speed-up or, if it was not measured, KL
divergence from fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnn_infer.system.atomic import replacing
from matplotlib.figure import Figure

from cnn_export.int8.candidates import Candidate

COLOURS = {False: "#4477aa", True: "#bbbbbb"}
WINNER = "#ee6677"


def draw(candidates: Sequence[Candidate], winner: int, path: Path) -> None:
    """Write the plot as a PNG file, with a vertical line at the largest allowed loss of accuracy.

    Args:
        candidates: All candidates of the search.
        winner: Index of the chosen one.
        path: File to write.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    measured = bool(candidates[winner].latency)
    drops = [candidate.validation.drop_points for candidate in candidates]
    heights = [candidate.speedup or candidate.divergence for candidate in candidates]
    for rejected, label in ((False, "may ship"), (True, "may not ship")):
        chosen = [index for index, candidate in enumerate(candidates) if candidate.verdict.rejected is rejected]
        if chosen:
            points = [drops[index] for index in chosen], [heights[index] for index in chosen]
            axes.scatter(*points, color=COLOURS[rejected], label=label, s=40)
    label = f"chosen: {candidates[winner].name}"
    axes.scatter([drops[winner]], [heights[winner]], marker="*", s=260, color=WINNER, label=label)
    allowed = candidates[winner].verdict.allowed_drop_points
    axes.axvline(allowed, color="black", linestyle=":", linewidth=1, label=f"allowed: {allowed:.2f} points")
    if measured:
        axes.axhline(1, color="black", linewidth=1)
    axes.set(
        xlabel="accuracy lost on validation pictures (percentage points)",
        ylabel="speed-up over fp32 (the smaller of both batch sizes)" if measured else "KL divergence from fp32 (nats)",
        title=f"int8: {len(candidates)} candidate{'' if len(candidates) == 1 else 's'}",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
