"""Draw the results of benchmarks/train.py: test accuracy against training time."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"nano": "#228833", "small": "#4477aa", "base": "#aa3377", "large": "#ccbb44"}
OTHER = "#777777"
KINDS = {
    "-pretrained": ("#4477aa", "lite0, pretrained, fine-tuned"),
    "-frozen": ("#228833", "lite0, pretrained, last layer only"),
    "-small-taught": ("#ccbb44", "small, taught by the fine-tuned lite0"),
    "-nano-taught": ("#66ccee", "nano, taught by the fine-tuned lite0"),
    "-scratch": ("#aa3377", "small, from scratch"),
    "-nano-alone": ("#777777", "nano, from scratch"),
}
"""How rows with few pictures end, with the colour and the name of their line."""


@dataclass(frozen=True)
class Peer:
    """A published or measured result of another network.

    Attributes:
        data: The data set.
        name: The label in the picture.
        accuracy: Test accuracy in per cent.
        seconds: Training time; None if it is not published, then the picture shows a line.
        source: Where the figures come from.
    """

    data: str
    name: str
    accuracy: float
    seconds: float | None
    source: str


PEERS = (
    Peer("fashion-mnist", "plain net, 413k", 93.45, 258, "benchmarks/plain_net.py, 10 epochs, two Zen 4 cores"),
    Peer(
        "cifar10", "airbench94 with Muon", 88.6, 1070, "KellerJordan/cifar10-airbench in bf16 on two Zen 4 cores, JPEG"
    ),
    Peer("fashion-mnist", "2 convolutions, 113k", 92.2, None, "table of zalandoresearch/fashion-mnist"),
    Peer("fashion-mnist", "DenseNet-BC, 768k", 95.4, None, "table of zalandoresearch/fashion-mnist"),
    Peer("fashion-mnist", "WRN-28-10, 36M", 96.3, None, "table of zalandoresearch/fashion-mnist"),
)


def draw(files: list[Path], target: Path) -> None:
    """Write a PNG file with a panel for each data set.

    A result is a dot with error bars: the standard deviation of the accuracy over the random seeds, and the range of
    the times.

    Args:
        files: Reports of benchmarks/train.py. Those with options after ``--`` are skipped.
        target: The PNG file to write.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    found = [result for result in found if not result["more"] and result.get("per_class") is None]
    panels = sorted({result["data"] for result in found}, reverse=True)
    if not panels:
        sys.exit("nothing to draw: no train_*.json holds the result of a row without further options")
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for result in found:
            if result["data"] == data:
                _ours(axes, result)
        for peer in PEERS:
            if peer.data == data:
                _peer(axes, peer)
        axes.set(xscale="log", xlabel="training time (s)", ylabel="test accuracy (%)", title=data)
        axes.margins(x=0.3, y=0.15)
        axes.grid(alpha=0.3, which="both")
    figure.savefig(target, format="png", dpi=90)


def draw_few(files: list[Path], target: Path) -> None:
    """Write a PNG file with a panel for each data set: test accuracy against the training pictures per class.

    Error bars are the standard deviation over the random seeds, each of which draws other pictures.

    Args:
        files: Reports of benchmarks/train.py. Only rows with few pictures are drawn, without options after ``--``.
        target: The PNG file to write.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    found = [result for result in found if not result["more"] and result.get("per_class") is not None]
    panels = sorted({result["data"] for result in found}, reverse=True)
    if not panels:
        sys.exit("nothing to draw: no train_*.json holds the result of a row with few pictures")
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    for axes, data in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for kind, (colour, name) in KINDS.items():
            own = [result for result in found if result["data"] == data and result["row"].endswith(kind)]
            own.sort(key=lambda result: result["per_class"])
            if own:
                accuracies = [100 * result["accuracy"]["mean"] for result in own]
                deviations = [100 * result["accuracy"]["deviation"] for result in own]
                counts = [result["per_class"] for result in own]
                axes.errorbar(counts, accuracies, yerr=deviations, fmt="o-", color=colour, capsize=3, label=name)
        axes.set(xscale="log", xlabel="training pictures per class", ylabel="test accuracy (%)", title=data)
        drawn = sorted({result["per_class"] for result in found if result["data"] == data})
        axes.set_xticks(drawn, [str(count) for count in drawn])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(target, format="png", dpi=90)


def _ours(axes: Axes, result: dict[str, Any]) -> None:
    accuracy, seconds = result["accuracy"], result["seconds"]
    axes.errorbar(
        seconds["median"],
        100 * accuracy["mean"],
        xerr=[[seconds["median"] - seconds["least"]], [seconds["most"] - seconds["median"]]],
        yerr=100 * accuracy["deviation"],
        fmt="o" if result["device"] == "cpu" else "D",
        color=COLOURS.get(result["model"], "black"),
        capsize=3,
    )
    where = f" on {result['card']}" if result["card"] else ""
    _name(axes, seconds["median"], 100 * accuracy["mean"], f"{result['model']}, {_short(result['parameters'])}{where}")


def _peer(axes: Axes, peer: Peer) -> None:
    if peer.seconds is None:
        axes.axhline(peer.accuracy, color=OTHER, linewidth=0.8, linestyle=":")
        place = axes.get_yaxis_transform()
        axes.text(0.01, peer.accuracy, peer.name, transform=place, fontsize=7, color=OTHER, va="bottom")
        return
    axes.plot(peer.seconds, peer.accuracy, "x", color=OTHER)
    _name(axes, peer.seconds, peer.accuracy, peer.name)


def _name(axes: Axes, seconds: float, accuracy: float, name: str) -> None:
    axes.annotate(name, (seconds, accuracy), xytext=(5, -11), textcoords="offset points", fontsize=8)


def _short(parameters: int) -> str:
    return f"{parameters / 1e6:.1f}M" if parameters >= 1e6 else f"{parameters / 1e3:.0f}k"
