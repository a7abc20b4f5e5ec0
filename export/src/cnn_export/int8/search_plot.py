"""A scatter plot of the candidates of an int8 search: accuracy loss against speed-up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cnn_infer.system.atomic import replacing
from matplotlib.figure import Figure

from cnn_export.int8.candidates import Candidate

COLOURS = {True: "#4477aa", False: "#bbbbbb"}
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
    for ships, label in ((True, "may ship"), (False, "may not ship")):
        chosen = [candidate for candidate in candidates if candidate.verdict.ships is ships]
        if chosen:
            drops = [candidate.validation.drop_points for candidate in chosen]
            axes.scatter(drops, [candidate.speedup for candidate in chosen], color=COLOURS[ships], label=label, s=40)
    best = candidates[winner]
    axes.scatter(
        [best.validation.drop_points], [best.speedup], marker="*", s=260, color=WINNER, label=f"chosen: {best.name}"
    )
    allowed = best.verdict.allowed_drop_points
    axes.axvline(allowed, color="black", linestyle=":", linewidth=1, label=f"allowed: {allowed:.2f} points")
    axes.axhline(1, color="black", linewidth=1)
    axes.set(
        xlabel="accuracy lost on validation pictures (percentage points)",
        ylabel="speed-up over fp32 (the smaller of both batch sizes)",
        title=f"int8: {len(candidates)} candidate{'' if len(candidates) == 1 else 's'}",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
