"""What ``cnn-train --compare`` compares: networks from run folders and exported files, and their common test split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cnn_infer import Classifier
from cnn_infer.paths.labels_file import is_labels_file
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CONFIG, REPORT, SPEC, WEIGHTS
from cnn_infer.spec import Spec
from numpy.typing import NDArray

from cnn_train.data.dataset import Split, read_split
from cnn_train.data.named_sets import NAMED
from cnn_train.data.source import Source, open_source, spellings
from cnn_train.errors import DataError, RunError
from cnn_train.metrics import probabilities_of
from cnn_train.network.logits import logits_of
from cnn_train.run.folder import Run

BATCH = 256

Pictures = NDArray[np.uint8]
Classify = Callable[[Pictures, Callable[[int], None]], NDArray[np.float32]]
"""Returns the probabilities, float32 (n, classes), of uint8 (n, h, w, c), and reports how many pictures it has done."""


@dataclass(frozen=True)
class Opened:
    """A network that is compared.

    Attributes:
        name: The run folder or file, as it was given.
        kind: ``PyTorch``, ``fp32``, ``fp16`` or ``int8``.
        spec: Its specification.
        fingerprint: That of the test split on which it was tested.
        bytes: Size of its weights file or model file.
        classify: Classifies pictures of its size.
        run: The run folder that it is from or lies in; None if that is not known.
    """

    name: str
    kind: str
    spec: Spec
    fingerprint: str
    bytes: int
    classify: Classify
    run: Run | None


def open_compared(path: str | os.PathLike[str]) -> Opened:
    """Open a run folder, or a file that cnn-export wrote.

    Raises:
        RunError: it is neither, or it does not say on which pictures it was tested.
        ModelError: the file cannot be used.
        DeviceError: ONNX Runtime is not installed.
    """
    name = printable(path)
    if Path(path).is_dir():
        run = Run.open(path)
        return Opened(name, "PyTorch", run.spec, _fingerprint(run.spec, name), _size(run), _pytorch(run), run)
    if not str(path).lower().endswith(".onnx"):
        raise RunError(f"{name} is neither a run folder nor an .onnx file")
    classifier = Classifier(path, device="cpu")
    folder = Path(path).absolute().parent
    beside = Run(folder) if all((folder / file).is_file() for file in (CONFIG, REPORT, SPEC)) else None
    spec = classifier.spec
    return Opened(
        name=name,
        kind=str(spec.details.get("precision", "fp32")),
        spec=spec,
        fingerprint=_fingerprint(spec, name),
        bytes=classifier.model.bytes,
        classify=_onnx(classifier),
        run=beside,
    )


def read_test(
    opened: Sequence[Opened], data: str | os.PathLike[str] | None, place: str = "--data PATH"
) -> tuple[str, list[Split]]:
    """Decode the test split on which all networks were tested, for each network at its size.

    Args:
        opened: The networks; they were tested on the same pictures.
        data: New place of the data set; None for the place where it was in training.
        place: How the user names the new place, for messages.

    Returns:
        The name of the data set, and a split for each network; networks of the same size share one.

    Raises:
        RunError: the data set is not found, or has other test pictures.
        InputError: a folder cannot be listed, or a labels file or an archive is damaged.
    """
    source = _open_data(opened, data, place)
    decoded: dict[tuple[object, ...], Split] = {}
    for entry in opened:
        key = _decoding(entry.spec)
        if key not in decoded:
            decoded[key] = _read(source, entry, place)
    recorded = opened[0].spec.details["data"].get("name")  # the folder of a named set is called otherwise, such as raw
    name = recorded if recorded in ("digits", *NAMED) else source.name
    return name, [decoded[_decoding(entry.spec)] for entry in opened]


def _read(source: Source, entry: Opened, place: str) -> Split:
    for spelled in spellings(source):
        split, fingerprint, _ = read_split(spelled, "test", entry.spec)
        if fingerprint == entry.fingerprint:
            return split
    raise RunError(
        f"the test pictures in {printable(source.location or source.name)} are not those on which {entry.name} was "
        f"tested: name its data set: {place}"
    )


def _decoding(spec: Spec) -> tuple[object, ...]:
    return spec.height, spec.width, spec.colour, spec.resize, spec.filter


def _fingerprint(spec: Spec, name: str) -> str:
    data = spec.details.get("data")
    prints = data.get("fingerprints") if isinstance(data, dict) else None
    found = prints.get("test") if isinstance(prints, dict) else None
    if not isinstance(found, str):
        raise RunError(f"{name} does not say on which pictures it was tested: train or export it again")
    return found


def _size(run: Run) -> int:
    return (run.path / WEIGHTS).stat().st_size


def _open_data(opened: Sequence[Opened], data: str | os.PathLike[str] | None, place: str) -> Source:
    """Open the data set, with the options that decide which pictures are its test split."""
    config = next((entry.run.config for entry in opened if entry.run is not None), None)
    settings: Mapping[str, Any] = {} if config is None else vars(config)
    if config is None:  # an exported file has the settings of its training
        found = opened[0].spec.details.get("settings")
        settings = found if isinstance(found, dict) else {}
    location = os.fspath(data) if data is not None else _location(opened)
    if location is None:
        raise RunError(f"{opened[0].name} does not say where its data set is: name it: {place}")
    try:
        return open_source(
            location,
            data_dir=settings.get("data_dir"),
            seed=settings.get("seed") or 0,
            classes=opened[0].spec.classes,
            columns=settings.get("columns") if is_labels_file(location) else None,
            group=settings.get("group"),
            fold=settings.get("fold"),
        )
    except DataError as error:
        raise RunError(f"cannot open the data set of {opened[0].name}: {error}; if it has moved: {place}") from error


def _location(opened: Sequence[Opened]) -> str | None:
    """Where the data set of the first run is: its place in training or, if that is gone, as it was named then."""
    for entry in opened:
        if entry.run is not None:
            location = entry.run.spec.details["data"].get("location")
            return location if isinstance(location, str) and os.path.exists(location) else entry.run.config.data
    return None


def _pytorch(run: Run) -> Classify:
    network, spec = run.network(), run.spec

    def classify(pictures: Pictures, done: Callable[[int], None]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(pictures), BATCH):
            part = pictures[start : start + BATCH]
            parts.append(probabilities_of(logits_of(network, part, spec, torch.device("cpu")), spec.temperature))
            done(len(part))
        return np.concatenate(parts)

    return classify


def _onnx(classifier: Classifier) -> Classify:
    def classify(pictures: Pictures, done: Callable[[int], None]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(pictures), BATCH):
            parts.append(classifier.probabilities(np.ascontiguousarray(pictures[start : start + BATCH])))
            done(len(parts[-1]))
        return np.concatenate(parts)

    return classify
