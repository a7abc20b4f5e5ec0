"""The plots of a run: curves, confusion matrix, mistakes, reliability and samples. They need no display."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer.metrics import wilson_interval
from cnn_infer.system.atomic import replacing
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cnn_train.recipe.fit import Epoch

TRAIN, VALIDATION, WRONG = "#4477aa", "#ee6677", "#bb3344"
MODELS = (TRAIN, VALIDATION, "#228833")
"""The colours of models that are shown together."""

MOST_NUMBERED_CLASSES = 20
MOST_NAMED_CLASSES = 60
CAPTION, GAP = 0.3, 0.04
"""Height of a caption, and half the distance between two pictures, if a picture has the width 1."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, atomically."""
    with replacing(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about characters that the font lacks; they are drawn as boxes
        figure.savefig(stream, format="png", dpi=110)


def curves(epochs: Sequence[Epoch], kept: int | None = None) -> Figure:
    """Plot loss, calibrated validation loss and accuracy of training and validation over the epochs.

    Args:
        epochs: The epochs so far, as the ``on_epoch`` of :func:`cnn_train.train` gets them; without any the axes are
            empty.
        kept: Number, from 1, of the epoch whose weights are kept; it is marked by a line. None if not known yet.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    numbers = [epoch.epoch for epoch in epochs]
    for axes, what, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        for split, colour in (("train", TRAIN), ("val", VALIDATION)):
            values = [factor * getattr(epoch, f"{split}_{what}") for epoch in epochs]
            label = {"train": "train (augmented)", "val": "validation"}[split]
            axes.plot(
                numbers, values, color=colour, label=label, marker="o" if len(epochs) < 30 else None, markersize=4
            )
        if what == "loss":  # this one decides which epoch is kept
            values = [epoch.val_calibrated_loss for epoch in epochs]
            axes.plot(numbers, values, color=VALIDATION, linestyle="--", label="validation, calibrated")
        if kept is not None:
            axes.axvline(kept, color="black", linestyle=":", linewidth=1, label=f"kept: epoch {kept}")
        axes.set(xlabel="epoch", title="loss (cross-entropy)" if what == "loss" else "accuracy (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion(matrix: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Plot a confusion matrix, int64 (classes, classes), as a heat map. Rows are true classes, columns predicted ones.

    Up to :data:`MOST_NUMBERED_CLASSES` classes the cells show counts, up to :data:`MOST_NAMED_CLASSES` the axes show
    names.
    """
    count = len(classes)
    side = float(np.clip(2.5 + 0.55 * count, 5, 16))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if count <= MOST_NAMED_CLASSES:
        small = 9 if count <= MOST_NUMBERED_CLASSES else 6
        names = [_short(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=small)
        axes.set_yticks(range(count), names, fontsize=small)
    if count <= MOST_NUMBERED_CLASSES:
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    return figure


def mistakes(
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    most: int = 24,
) -> Figure:
    """Show the wrongly classified test pictures with the highest confidence, each with its true and predicted class.

    If all are correct, show those with the lowest confidence.

    Args:
        pictures: uint8 (n, h, w, c).
        labels: int64 (n,).
        probabilities: float32 (n, classes).
        classes: Names of the classes.
        most: Maximum number of pictures to show.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    if len(wrong):
        chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
        more = f"; the {len(chosen)} with the highest confidence" if len(wrong) > most else ""
        heading = f"{len(wrong):,} of {len(labels):,} test pictures are wrong{more}"
    else:
        chosen = np.argsort(confidence, kind="stable")[:most]
        heading = f"all {len(labels):,} test pictures are correct; the {len(chosen)} with the lowest confidence"
    captions = [
        f"true: {_short(classes[labels[index]])}\n{_short(classes[predicted[index]])} {confidence[index]:.0%}"
        for index in chosen
    ]
    return grid(pictures[chosen], captions, heading, colour=WRONG if len(wrong) else "black")


def reliability(calibrations: Mapping[str, Mapping[str, Any]], title: str) -> Figure:
    """Plot accuracy over confidence, and below it how many pictures have that confidence.

    On the diagonal, a model is right as often as its top probability says (DeGroot and Fienberg, 1983, The Statistician
    32:12). Bins with few pictures are far from it by chance: their 95% intervals are drawn.

    Args:
        calibrations: For each name of a model, the figures of :func:`cnn_infer.calibration.calibration_of`; of at most
            three models.
        title: Text at the top of the figure.

    Raises:
        ValueError: there are more models than colours.
    """
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color="black", linestyle=":", linewidth=1, label="right as often as it says")
    for (name, found), colour in zip(calibrations.items(), MODELS[: len(calibrations)], strict=True):
        bins = [part for part in found["bins"] if part["count"]]
        confidence, accuracy = ([part[key] for part in bins] for key in ("confidence", "accuracy"))
        ends = [wilson_interval(round(part["accuracy"] * part["count"]), part["count"]) for part in bins]
        errors = np.abs(np.array(ends).T - accuracy)
        label = f"{name}: ECE {found['ece']:.4f}, Brier score {found['brier']:.4f}"
        upper.errorbar(confidence, accuracy, errors, color=colour, label=label, marker="o", markersize=4, capsize=2)
        edges = np.linspace(0, 1, len(found["bins"]) + 1)
        lower.stairs([part["count"] for part in found["bins"]], edges, color=colour, label=name)
    upper.set(title=title, ylabel="accuracy", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    lower.set(xlabel="confidence (top probability)", ylabel="pictures")
    most = max((part["count"] for found in calibrations.values() for part in found["bins"]), default=0)
    if most < 20:  # a logarithmic axis would have a single number
        lower.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        lower.set_ylim(bottom=0)
    else:
        lower.set_yscale("symlog")
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.legend(loc="lower right")
    return figure


def samples(pictures: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Show augmented training pictures, uint8 (n, h, w, c), with their classes.

    Args:
        pictures: uint8 (n, h, w, c).
        labels: int64 (n,).
        classes: Names of the classes.
    """
    captions = [_short(classes[label]) for label in labels]
    return grid(pictures, captions, "training pictures as the network sees them, augmented")


def grid(
    pictures: NDArray[np.uint8], captions: Sequence[str], heading: str, *, columns: int = 8, colour: str = "black"
) -> Figure:
    """Show pictures in rows, each with a caption above it.

    Args:
        pictures: uint8 (n, h, w, c).
        captions: One for each picture, of up to two lines.
        heading: Text at the top of the figure.
        columns: Maximum number of pictures per row.
        colour: Colour of the captions.
    """
    # one pair of axes for all pictures: a pair for each takes longer to draw than a small training
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    tall = pictures.shape[1] / pictures.shape[2] + CAPTION
    height = max(2.8, 0.3 + 1.5 * tall * rows)
    figure = Figure(figsize=(max(5.0, 1.5 * columns), height), layout="constrained")
    figure.suptitle(heading, fontsize=11)
    axes = figure.subplots()
    axes.axis("off")
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        edges = (column + GAP, column + 1 - GAP, (row + 1) * tall - GAP, row * tall + CAPTION + GAP)
        shown = picture[:, :, 0] if picture.shape[2] == 1 else picture
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=edges)
        axes.text(column + 0.5, row * tall + CAPTION, caption, ha="center", va="bottom", fontsize=8, color=colour)
    axes.set(xlim=(0, columns), ylim=(rows * tall, 0))
    return figure


def _short(name: str, most: int = 18) -> str:
    short = name if len(name) <= most else name[: most - 1] + "…"
    return short.replace("$", r"\$")  # matplotlib reads text between two of them as a formula
