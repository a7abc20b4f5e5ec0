"""Accuracy against int8 latency: a picture with a dot for every network design that was tried.

    python benchmarks/frontier.py --output benchmarks/results/frontier_epyc_zen5.json
    python benchmarks/frontier.py --draw benchmarks/results/frontier_epyc_zen5.json benchmarks/results/frontier.png

The accuracies come from benchmarks/results/network_designs.md and training_recipe.md: Fashion-MNIST, held-out training
pictures, one random seed. Dots of the same colour had the same training, so they can be compared. This script measures
the latencies, with one thread and batches of 64 pictures of 28x28x1, the designs in turn. The weights are untrained,
because the latency does not depend on their values.

A design is a sequence of layers:

- sh: four shifted copies of the picture. s2d: 2x2 space to depth. pt: 4x4 patches, 2 pixels apart.
- wh: whitened 2x2 patches with both signs and ReLU. wl: the same without the ReLU. w3: 4x4 patches to 16 values.
- A number: 3x3 convolution to that width, batch norm, ReLU; with p, 2x2 max pooling as well.
- p: 2x2 max pooling. u: space to depth inside the network.
- R: residual pair with a ReLU after it. r: residual pair without it.

All designs end with the global maximum and a linear layer.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import TARGETS
from cnn_infer import Spec
from cnn_train.network.presets import ConvNorm, GlobalMaxPool, Shifts, SpaceToDepth, Whitening
from report import conditions, parser, run_script, write
from sessions import one_thread_session
from torch import Tensor, nn

FIRST = "SGD, 4 epochs"
MIRRORED = "Muon, 4 epochs, mirrored"
PLAIN = "Muon, 4 epochs"
LITTLE = "Muon, 6 epochs"
SMALL_FIRST = "Muon, 6 epochs, small pictures first"
DESIGNS = (
    ("16 32p r 64p 128p r", FIRST, 91.88),
    ("s2d 48 r p 96 r r", FIRST, 90.28),
    ("s2d 96p 96 r r", FIRST, 89.48),
    ("pt 48 r p 96 r r", FIRST, 88.24),
    ("sh 32p 48 r p 96 r 96", FIRST, 91.48),
    ("s2d 48 R p 96 R p R", FIRST, 90.76),
    ("sh 48p R p 96 R p R", MIRRORED, 91.53),
    ("sh 48p 48 96p 96 96p 96", MIRRORED, 92.19),
    ("wl 48p 48 96p 96 96p 96", MIRRORED, 92.13),
    ("wh 48p 48 96p 96 96p 96", MIRRORED, 92.71),
    ("wh 48p 48 96p 96 96p 96", PLAIN, 93.12),
    ("wh 48p R 96p R 96p R", PLAIN, 92.92),
    ("w3 48p 48 96p 96 96p 96", PLAIN, 92.59),
    ("wh 48p 48p 48", LITTLE, 91.70),
    ("wh 48p 48 48p", LITTLE, 91.82),
    ("wh 32p 48 48p 48", LITTLE, 92.15),
    ("wh 48p 48 96p 96 96p 96 96", SMALL_FIRST, 93.56),
    ("wh 32p 48 96p 96 96p 96 96", SMALL_FIRST, 93.18),
    ("wh u 48 48 96p 96 96p 96 96", SMALL_FIRST, 93.01),
)
PRESETS = {"wh 32p 48 48p 48": "nano", "wh 48p 48 96p 96 96p 96 96": "small"}
COLOURS = {FIRST: "#777777", MIRRORED: "#ccbb44", PLAIN: "#4477aa", LITTLE: "#228833", SMALL_FIRST: "#aa3377"}
BATCH = 64
ROUNDS = 15


class Pair(nn.Module):
    """A residual block: the input plus two convolutions of it, with or without a final ReLU."""

    def __init__(self, width: int, *, rectified: bool) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, pool=False)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.last = nn.ReLU() if rectified else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        added: Tensor = self.last(features + self.second(self.first(features)))
        return added


def network(design: str) -> nn.Module:
    """The untrained network of a design, for pictures of 28x28x1."""
    layers: list[nn.Module] = []
    width = 1
    stems: dict[str, tuple[list[nn.Module], int]] = {
        "sh": ([Shifts()], 4),
        "s2d": ([SpaceToDepth(2)], 4),
        "pt": ([SpaceToDepth(2), Shifts()], 16),
        "wh": ([Shifts(), Whitening(4)], 8),
        "wl": ([Shifts(), nn.Conv2d(4, 4, 1, bias=False)], 4),
        "w3": ([Shifts(), nn.Conv2d(4, 16, 3, padding=1, bias=False), nn.ReLU()], 16),
    }
    for token in design.split():
        if token in stems:
            layers, width = stems[token][0], stems[token][1]
        elif token == "u":
            layers.append(SpaceToDepth(2))
            width *= 4
        elif token == "p":
            layers.append(nn.MaxPool2d(2))
        elif token in "Rr":
            layers.append(Pair(width, rectified=token == "R"))
        else:
            outputs = int(token.removesuffix("p"))
            layers.append(ConvNorm(width, outputs, pool=token.endswith("p")))
            width = outputs
    return nn.Sequential(*layers, GlobalMaxPool(), nn.Linear(width, 10)).eval()


def int8_of(design: str) -> bytes:
    """The content of the int8 file of a design, calibrated on random pictures."""
    torch.manual_seed(0)
    spec = Spec(tuple("abcdefghij"), 28, 28, "grey", "crop", "bicubic", zero_point=73, scale=0.011)
    graph = float_graph(network(design), spec)
    batches = normalised(np.random.default_rng(0).integers(0, 256, (64, *spec.shape), dtype=np.uint8), spec)
    quantized = quantize(graph, collect(graph, batches), batches, spec, Recipe("minmax"), TARGETS["vnni"])
    content: bytes = keep_contract(quantized, spec).SerializeToString()
    return content


def measure() -> list[dict[str, Any]]:
    """Measure the designs in turn, in blocks, and return a row for each design and training."""
    sessions = {}
    for design in {design for design, _, _ in DESIGNS}:
        sessions[design] = one_thread_session(int8_of(design))
        print(f"exported {design}", flush=True)
    pictures = np.random.default_rng(1).integers(0, 256, (BATCH, 28, 28, 1), dtype=np.uint8)
    blocks: dict[str, list[float]] = {design: [] for design in sessions}
    for number in range(ROUNDS + 1):
        for design, session in sessions.items():
            times = []
            for _ in range(10):
                start = time.perf_counter()
                session.run(["probabilities"], {"image": pictures})
                times.append(time.perf_counter() - start)
            if number:  # the first round warms up
                blocks[design].append(1e6 * statistics.median(times) / BATCH)
    return [
        {
            "design": design,
            "training": training,
            "accuracy": accuracy,
            "us_per_picture": statistics.median(blocks[design]),
            "cv": statistics.stdev(blocks[design]) / statistics.mean(blocks[design]),
        }
        for design, training, accuracy in DESIGNS
    ]


def draw(rows: list[dict[str, Any]], target: Path) -> None:
    """Write a PNG file with a dot for each row.

    For each training, a line joins the designs that no other design beats in both accuracy and latency.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots()
    for training, colour in COLOURS.items():
        group = sorted((row for row in rows if row["training"] == training), key=lambda row: row["us_per_picture"])
        axes.scatter(
            [row["us_per_picture"] for row in group], [row["accuracy"] for row in group], color=colour, label=training
        )
        best = [row for at, row in enumerate(group) if all(row["accuracy"] > one["accuracy"] for one in group[:at])]
        axes.plot([row["us_per_picture"] for row in best], [row["accuracy"] for row in best], color=colour, linewidth=1)
        for row in group:
            name = row["design"] + (f" = {PRESETS[row['design']]}" if row["design"] in PRESETS else "")
            place = row["us_per_picture"], row["accuracy"]
            left = any(
                0 < one["us_per_picture"] - place[0] < 20 and abs(one["accuracy"] - place[1]) < 0.2 for one in rows
            )
            offset, side = ((-5, 3), "right") if left else ((5, 3), "left")
            axes.annotate(name, place, offset, textcoords="offset points", ha=side, fontsize=7, color=colour)
    axes.set(xlabel=f"int8, one thread, batch {BATCH} (us a picture)", ylabel="accuracy on held-out pictures (%)")
    axes.set_title("Fashion-MNIST: the designs that were tried", fontsize=10)
    axes.margins(x=0.3)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(target, format="png", dpi=75)


def main() -> None:
    """Measure all designs, or draw the result of an earlier measurement."""
    arguments = parser(__doc__)
    arguments.add_argument("--draw", nargs=2, type=Path, metavar=("JSON", "PNG"), help="draw a result; measure nothing")
    options = arguments.parse_args()
    if options.draw:
        draw(json.loads(options.draw[0].read_text(encoding="utf-8"))["rows"], options.draw[1])
        return
    rows = measure()
    for row in rows:
        print("{accuracy:6.2f}%  {us_per_picture:6.1f} us  {design:<30} {training}".format(**row))
    write(options.output, {**conditions("frontier.py", ("onnxruntime", "torch")), "rows": rows})


if __name__ == "__main__":
    run_script(main)
