"""What a training starts from: the decoded data, the specification of the model, and the network."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cnn_infer.console import quantity
from cnn_infer.paths.naming import printable
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import nn

from cnn_train import distributed
from cnn_train.config import DEFAULTS, Config
from cnn_train.data.dataset import Dataset, cache_folder, prepare
from cnn_train.data.decode import decode_digest
from cnn_train.data.headers import headers_of
from cnn_train.data.output_guard import check_outside
from cnn_train.data.source import open_source
from cnn_train.data.split_checks import shortened
from cnn_train.defaults import pretrained_side
from cnn_train.metrics import pixel_digest
from cnn_train.network.build import build
from cnn_train.network.logits import to_input
from cnn_train.network.presets import PRESETS, init_whitening
from cnn_train.network.pretrained import NORMALISATION, load_pretrained

log = logging.getLogger(__name__)

MOST_LISTED = 12
"""Most classes whose pictures are counted in the messages."""

WHITENING_PIXELS = 4 << 20
"""Number of pixels that the whitening layer is computed from: about 5,000 pictures of 28 x 28."""


def open_dataset(
    options: Mapping[str, Any], out: str | os.PathLike[str], test_pictures: str | os.PathLike[str] | None
) -> Dataset:
    """Open and decode the data set, and log what was found.

    Args:
        options: Given options, as :func:`cnn_train.config.checked` returns them.
        out: The run folder, or the folder in which it will be created.
        test_pictures: The folder that the test split will be written to, if any.

    Raises:
        DataError: the data set is missing or has an unknown layout, or an output folder lies in it.
        ConfigError: the size is out of range.
    """
    given = {**DEFAULTS, **options}
    data_dir, cache = given.get("data_dir"), given.get("cache")
    with distributed.main_process_first():
        source = open_source(
            given["data"],
            data_dir=Path(data_dir) if data_dir else None,
            seed=given["seed"],
            columns=given.get("columns"),
            group=given.get("group"),
            fold=given.get("fold"),
        )
        check_outside(source, out, "--out")
        if test_pictures is not None:
            check_outside(source, test_pictures, "--test-pictures")
        size = given.get("size")
        if size is None and given["pretrained"]:
            check_outside(source, cache_folder(cache), "--cache")
            size = pretrained_side(headers_of(source, cache_folder(cache)))
        dataset = prepare(
            source,
            size=size,
            resize=given["resize"],
            cache=Path(cache) if cache else None,
            strict=given["strict"],
        )
    counts = ", ".join(f"{name} {len(split.labels):,}" for name, split in dataset.splits.items())
    kind = "grey" if dataset.colour == "grey" else "colour"
    log.info(f"data: {source.name}, {len(source.classes)} classes, {dataset.width} x {dataset.height} {kind}: {counts}")
    for name, split in dataset.splits.items():
        log.info(f"  {name}: {_class_sizes(split.labels, source.classes)}")
    for note in source.notes:
        log.info(f"  {note}")
    if dataset.unreadable:
        log.info(f"  {quantity(len(dataset.unreadable), 'picture')} could not be read and will be left out:")
    for name, reason in dataset.unreadable:
        log.info(f"    {printable(name)}: {reason}")
    return dataset


def _class_sizes(labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The number of pictures of each class, for people: ``cat 120, dog 80``; the first classes if there are many."""
    sizes = np.bincount(labels, minlength=len(classes))
    listed = [f"{name} {size:,}" for name, size in zip(classes, sizes, strict=True)]
    if len(listed) <= MOST_LISTED:
        return ", ".join(listed)
    return f"{shortened(listed, MOST_LISTED)} classes with {sizes.min():,} to {sizes.max():,} pictures"


def make_network(settings: Config, dataset: Dataset, spec: Spec) -> nn.Module:
    """Build the network as it is before its first step: with pretrained weights, or with random ones from PyTorch's
    global generator.

    The whitening layer of a preset is computed from training pictures, chosen by the seed.

    Raises:
        ConfigError: the pretrained weights are missing.
    """
    network = build(
        settings.model,
        classes=len(dataset.source.classes),
        channels=spec.channels,
        size=(dataset.height, dataset.width),
        dropout=settings.dropout,
    )
    if settings.pretrained:
        with distributed.main_process_first():
            load_pretrained(settings.model, network, zero_point=spec.zero_point, scale=spec.scale)
    if settings.model not in PRESETS:
        return network
    images = dataset.train.images
    order = np.random.default_rng(settings.seed).permutation(len(images))
    chosen = np.sort(order[: max(1, WHITENING_PIXELS // (spec.height * spec.width))])
    init_whitening(network, to_input(images[chosen], spec, torch.device("cpu")))
    return network


def make_spec(settings: Config, dataset: Dataset) -> Spec:
    """Make the specification of the model: classes, size, colour, resizing and normalisation.

    Normalisation has one mean, rounded to a pixel value, and one standard deviation for all channels. Both are
    computed from the training pictures, or they are those of the pretrained weights.
    """
    zero_point, scale = _normalisation(settings, dataset)
    source = dataset.source
    spec = Spec(
        classes=source.classes,
        height=dataset.height,
        width=dataset.width,
        colour=dataset.colour,
        resize=settings.resize,
        filter=dataset.filter,
        zero_point=zero_point,
        scale=scale,
    )
    data = {
        "name": source.name,
        "location": source.path,
        "fingerprints": dict(dataset.fingerprints),
        "images": {name: len(split.labels) for name, split in dataset.splits.items()},
        "test_pixels": pixel_digest(dataset.test.images),
        "test_decoded": decode_digest(source.splits["test"].pictures, spec),
    }
    return replace(spec, details={"data": data, "settings": asdict(settings)})


def _normalisation(settings: Config, dataset: Dataset) -> tuple[int, float]:
    """Zero point and scale."""
    if settings.pretrained and settings.model in NORMALISATION:
        return NORMALISATION[settings.model]
    mean, deviation = _mean_and_deviation(dataset.train.images)
    return round(mean), 1 / max(deviation, 1.0)


def _mean_and_deviation(images: NDArray[np.uint8]) -> tuple[float, float]:
    """The mean and standard deviation of all values of uint8 pictures (n, h, w, c), from 0 to 255.

    They are computed exactly from a histogram, with a few megabytes of pictures in memory at a time.
    """
    counts = np.zeros(256, np.int64)
    block = max(1, (4 << 20) // images[0].size)
    for start in range(0, len(images), block):
        counts += np.bincount(images[start : start + block].ravel(), minlength=256)
    values = np.arange(256)
    mean = float((counts * values).sum() / counts.sum())
    return mean, float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
