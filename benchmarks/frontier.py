"""Accuracy against int8 latency, every network design that was tried as a dot.

    python benchmarks/frontier.py --output benchmarks/results/frontier_epyc_zen5.json
    python benchmarks/frontier.py --draw benchmarks/results/frontier_epyc_zen5.json benchmarks/results/frontier.png

Accuracies are those of benchmarks/results/network_designs.md and training_recipe.md: Fashion-MNIST, held-out training
pictures, one seed. Dots of one colour had the same training and may be compared. Latencies are measured here, in turn,
one thread, 64 pictures of 28x28x1, with untrained weights: they do not depend on the values.

sh: four shifted copies. s2d: 2x2 space to depth. pt: 4x4 patches, 2 apart. wh: 2x2 patches whitened, both signs,
ReLU. wl: without the ReLU. w3: 4x4 patches to 16 values. A number: 3x3 convolution to that width, batch norm, ReLU.
p: 2x2 max pooling. R, r: residual pair with, without ReLU behind it. u: space to depth further in. All end with the
global maximum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import TARGETS
from cnn_infer import Spec
from cnn_train.network.presets import ConvNorm, GlobalMaxPool, Shifts, SpaceToDepth, Whitening
from conditions import conditions
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
    """Two convolutions that are added to what came in."""

    def __init__(self, width: int, *, rectified: bool) -> None:
        super().__init__()
        self.first = ConvNorm(width, width, pool=False)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.last = nn.ReLU() if rectified else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Same shape out as in."""
        added: Tensor = self.last(features + self.second(self.first(features)))
        return added


def network(design: str) -> nn.Module:
    """The network of a design for 28x28x1, untrained."""
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
    """The int8 file of a design, calibrated on noise."""
    torch.manual_seed(0)
    spec = Spec(tuple("abcdefghij"), 28, 28, "grey", "crop", "bicubic", zero_point=73, scale=0.011)
    graph = float_graph(network(design), spec)
    batches = normalised(np.random.default_rng(0).integers(0, 256, (64, *spec.shape), dtype=np.uint8), spec)
    quantized = quantize(graph, collect(graph, batches), batches, spec, Recipe("minmax"), TARGETS["vnni"])
    content: bytes = keep_contract(quantized, spec).SerializeToString()
    return content


def measured() -> list[dict[str, Any]]:
    """Every design in turn, in blocks."""
    sessions = {}
    for design in {design for design, _, _ in DESIGNS}:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        sessions[design] = onnxruntime.InferenceSession(int8_of(design), options, providers=["CPUExecutionProvider"])
        print(f"made {design}", flush=True)
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
    """A dot a design; a line through those that nothing of the same training beats in both."""
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
    axes.set_title("Fashion-MNIST: what was tried", fontsize=10)
    axes.margins(x=0.3)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(target, format="png", dpi=75)


def main() -> None:
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--draw", nargs=2, type=Path, metavar=("JSON", "PNG"))
    options = parser.parse_args()
    if options.draw:
        draw(json.loads(options.draw[0].read_text(encoding="utf-8"))["rows"], options.draw[1])
        return
    rows = measured()
    for row in rows:
        print("{accuracy:6.2f}%  {us_per_picture:6.1f} us  {design:<30} {training}".format(**row))
    if options.output is not None:
        document = {**conditions("frontier.py", ("onnxruntime", "torch")), "rows": rows}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
