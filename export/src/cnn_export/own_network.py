"""The export of a network that was trained elsewhere: :func:`export_network`."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np
import torch
from cnn_infer.paths.naming import folder_name, printable
from cnn_infer.run_files import CONFIG
from cnn_infer.runtime import load_runtime
from cnn_infer.spec import MAX_SIDE, Colour, Filter, Resize, Spec
from cnn_train import Dataset, Source, Split, open_source, prepare
from cnn_train.options import COLUMNS, PATTERN, whole_number
from cnn_train.replay import (
    check_outside,
    decode_digest,
    fit_temperature,
    logits_of,
    metrics_of,
    pixel_digest,
    probabilities_of,
    read_split,
)
from numpy.typing import NDArray
from torch import nn

from cnn_export.errors import ExportError
from cnn_export.export_result import Export
from cnn_export.exporting import check_opset, export_subject
from cnn_export.graph.first_layer import OWN_LAYER, normalise_input
from cnn_export.graph.float_graph import float_graph
from cnn_export.network_check import check_classifier, evaluation_copy
from cnn_export.normalisation import ContractNormalisation, Normalised, per_channel
from cnn_export.options import ExportOptions, Settings
from cnn_export.parity import Outputs
from cnn_export.subject import Subject


@dataclass(frozen=True)
class _Decoded:
    """The splits that are needed in any case, the fingerprints of all that were decoded, and what was left out."""

    test: Split
    val: Split
    fingerprints: dict[str, str]
    left_out: tuple[str, ...] = ()


def export_network(
    network: nn.Module,
    folder: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str],
    size: int | tuple[int, int],
    mean: float | Sequence[float],
    std: float | Sequence[float],
    classes: Sequence[str] | None = None,
    resize: Resize = "crop",
    filter: Filter = "bilinear",  # noqa: A002
    colour: Colour = "rgb",
    calibrate: bool = False,
    seed: int = 0,
    columns: Sequence[str] | None = None,
    group: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    **options: Unpack[ExportOptions],
) -> Export:
    """Export a network that was trained elsewhere, and check the files on the whole test split.

    The files are those of :func:`cnn_export.export`. The reference of the parity check is the network itself, in
    PyTorch on the CPU in fp32 and in evaluation mode, with this normalisation.

    Args:
        network: Takes ``(pixels / 255 - mean) / std``, float32 (n, channels, height, width), and returns logits,
            float32 (n, classes). Log-probabilities are logits too. It is not changed.
        folder: The folder for the files. Those of an earlier export in it are replaced.
        data: A data set as ``cnn-train`` takes it, with the pictures that the network was trained, validated and
            tested on. If it has no test split, one is made of training pictures, on which the network is too good.
        size: Side of a square in pixels, or (height, width).
        mean: For each channel, or for all; 0 to 1, as in torchvision. 0 if the network takes pixels from 0 to 1.
        std: For each channel, or for all, in the same unit. 1 if the network takes pixels from 0 to 1.
        classes: The classes in the order of the outputs. None for the order of the data set, which is sorted.
        resize: How a picture is brought to the size: ``crop``, ``pad`` or ``squash``.
        filter: The resampling filter, by Pillow's name.
        colour: ``rgb`` or ``grey``.
        calibrate: Divide the logits by the temperature that fits the validation split, as ``cnn-train`` does. Otherwise
            the file gives the network's own probabilities.
        seed: Random seed of the splits that are made, and of the calibration pictures.
        columns: The columns of a labels file that name the picture and its class.
        group: Regular expression that finds the group of a picture in its path.
        data_dir: The folder to search for named data sets first.
        cache: Folder for decoded pictures.
        **options: The fields of :class:`cnn_export.ExportOptions`, as for :func:`cnn_export.export`.

    Returns:
        The export; its ``run`` is None.

    Raises:
        ExportError: an argument is not accepted, or the network is not a classifier of such pictures.
        GraphError: the network cannot be exported.
        ParityError: the file does not compute what the network does. The files of an earlier export are kept.
        DataError: the data set is missing or has an unknown layout.
        DeviceError: ONNX Runtime is not installed.
    """
    settings = Settings.of(options, ExportOptions)
    check_opset(settings.opset)
    if not isinstance(calibrate, bool):
        raise ExportError(f"calibrate must be True or False, not {calibrate!r}")
    _check_reading(classes, seed, columns, group)
    height, width = _check_input(size, resize, filter, colour)
    channels = 1 if colour == "grey" else 3
    means, deviations = per_channel("mean", mean, channels), per_channel("std", std, channels)
    load_runtime()  # if it is missing, say so before the work starts
    copied = evaluation_copy(network)
    reference = Normalised(copied, means, deviations).eval()
    source = _open(data, classes, seed=seed, columns=columns, group=group, data_dir=data_dir)
    check_classifier(reference, (channels, height, width), len(source.classes))
    path = _create(folder, source)
    normalisation = ContractNormalisation.of(means, deviations)
    zero_point, scale = normalisation.zero_point, normalisation.scale
    spec = Spec(source.classes, height, width, colour, resize, filter, zero_point, scale)
    dataset = partial(prepare, source, size=(height, width), resize=resize, filter=filter, colour=colour, cache=cache)
    decoded = _decode(source, spec, dataset if settings.needs_training_pictures else None)
    logits = _logits(reference, decoded.test, spec)
    temperature = fit_temperature(_logits(reference, decoded.val, spec), decoded.val.labels) if calibrate else 1.0
    metrics = metrics_of(logits, decoded.test.labels, source.classes)
    made_with = {"mean": means.tolist(), "std": deviations.tolist(), "calibrate": calibrate}
    details = _details(source, spec, decoded, metrics, made_with)
    spec = replace(spec, temperature=temperature, details=details)
    notes = [*source.notes, *decoded.left_out, *_guessing(metrics)]
    graph = float_graph(copied, spec, settings.opset)
    if not normalise_input(graph, normalisation.gain, normalisation.shift, spec):
        notes.append(f"mean and std are a layer of their own ({OWN_LAYER}): no convolution alone reads the input")
    probabilities = probabilities_of(logits, temperature)
    subject = Subject(
        folder=path,
        spec=spec,
        graph=graph,
        source=source,
        test=decoded.test,
        reference=Outputs(logits / np.float32(temperature), probabilities),
        dataset=dataset,
        validation=lambda: decoded.val,
        seed=seed,
        notes=tuple(notes),
    )
    return export_subject(subject, settings)


def _check_reading(classes: object, seed: object, columns: object, group: object) -> None:
    """Check how the data set is to be read."""
    if not _are_names(classes):
        raise ExportError(f"classes must be a list of names, in the order of the outputs, not {reprlib.repr(classes)}")
    rules = {"seed": (seed, whole_number(0)), "columns": (columns, COLUMNS), "group": (group, PATTERN)}
    for name, (value, rule) in rules.items():
        if not rule.valid(value) and (value is not None or name == "seed"):
            raise ExportError(f"{name} must be {rule.expected}, not {value!r}")


def _are_names(classes: object) -> bool:
    if classes is None:
        return True
    return (
        isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(one, str) for one in classes)
    )


def _check_input(size: object, resize: str, resampling: str, colour: str) -> tuple[int, int]:
    """Check the input of the model, and return its height and width."""
    named = (("resize", resize, Resize), ("filter", resampling, Filter), ("colour", colour, Colour))
    for name, value, accepted in named:
        if value not in get_args(accepted):
            raise ExportError(f"{name} must be one of {', '.join(get_args(accepted))}, not {value!r}")
    sides = (size, size) if isinstance(size, int) else size
    if not isinstance(sides, (tuple, list)) or len(sides) != 2 or not all(map(_is_side, sides)):
        raise ExportError(f"size must be a number of pixels from 1 to {MAX_SIDE}, or (height, width), not {size!r}")
    return sides[0], sides[1]


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _open(data: str | os.PathLike[str], classes: Sequence[str] | None, **options: Any) -> Source:
    """Open the data set, with its classes in the given order."""
    wanted = tuple(map(folder_name, classes or ()))
    source = open_source(os.fspath(data), classes=wanted, **options)
    if classes is not None and source.classes != wanted:
        names = [name for name in wanted if name not in source.classes]
        names += [name for name in source.classes if name not in wanted]
        differing = f"{names[0]!r} is only in one of them" if names else "the data set has them in another order"
        raise ExportError(f"classes are not those of the data set {printable(os.fspath(data))}: {differing}")
    return source


def _create(folder: str | os.PathLike[str], source: Source) -> Path:
    """Create the folder of the export. A folder with the run of a training is refused."""
    path = Path(folder)
    check_outside(source, path, "the argument folder")
    if (path / CONFIG).exists():
        raise ExportError(f"{printable(path)} has a run of cnn-train: name another folder for this network")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot create the folder {printable(path)}: {error.strerror}") from error
    return path


def _decode(source: Source, spec: Spec, dataset: Callable[[], Dataset] | None) -> _Decoded:
    """Decode the splits: through the cache with ``dataset``, else only those for validation and test."""
    if dataset is not None:
        found = dataset()
        unreadable = found.unreadable
        decoded = _Decoded(found.test, found.val, dict(found.fingerprints))
    else:
        parts = {name: read_split(source, name, spec) for name in ("val", "test")}
        for name, (split, _, reasons) in parts.items():
            if not len(split.labels):
                place = printable(source.location or source.name)
                raise ExportError(f"{place}: no picture of the {name} split can be read: {reasons[0][1]}")
        unreadable = [entry for _, _, reasons in parts.values() for entry in reasons]
        fingerprints = {name: fingerprint for name, (_, fingerprint, _) in parts.items()}
        decoded = _Decoded(parts["test"][0], parts["val"][0], fingerprints)
    left_out = tuple(f"left out: {printable(name)}: {reason}" for name, reason in unreadable)
    return replace(decoded, left_out=left_out)


def _logits(reference: Normalised, split: Split, spec: Spec) -> NDArray[np.float32]:
    """The network's logits, float32 (n, classes), in PyTorch on the CPU."""
    return logits_of(reference, split.images, replace(spec, zero_point=0, scale=1 / 255), torch.device("cpu"))


def _details(
    source: Source, spec: Spec, decoded: _Decoded, metrics: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """What the specification records, under the keys that training uses."""
    data = {
        "fingerprints": decoded.fingerprints,
        "images": {name: len(split.labels) for name, split in source.splits.items()},
        "test_pixels": pixel_digest(decoded.test.images),
        "test_decoded": decode_digest(source.splits["test"].pictures, spec),
    }
    test = {key: value for key, value in metrics.items() if key not in ("per_class", "confusion")}
    versions = {name: metadata.version(name) for name in ("cnn-train", "torch", "pillow", "simplejpeg", "numpy")}
    return {"data": data, "settings": settings, "metrics": {"test": test}, "versions": versions}


def _guessing(metrics: dict[str, Any]) -> list[str]:
    """One line if the network may be no better than always naming the most frequent class."""
    most = max(entry["support"] for entry in metrics["per_class"].values())
    if metrics["accuracy_interval"][0] > most / metrics["images"]:
        return []
    return [
        f"the network classifies {metrics['correct']:,} of {metrics['images']:,} test pictures correctly, which may be "
        "chance: check its weights, mean, std, resize, filter, and the order of the classes"
    ]
