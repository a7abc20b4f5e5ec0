"""The data set of a run: find it again, and check that it is the one the network was trained and tested on."""

from __future__ import annotations

import logging
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from cnn_infer.paths.labels_file import is_labels_file
from cnn_infer.paths.naming import composed, printable
from cnn_infer.run_files import CONFIG, EXPORT_REPORT, SPEC
from cnn_train import DataError, Dataset, Run, Source, Split, open_source, prepare
from cnn_train.replay import pixel_digest, read_split, spellings

from cnn_export.errors import ExportError
from cnn_export.reports import parity_failure

log = logging.getLogger(__name__)


def open_run(run: Run | str | os.PathLike[str] | None) -> Run:
    """Return a run, that of a folder, or the newest under ``runs/``.

    Raises:
        RunError: there is no such run, or its training is not finished.
        ExportError: the folder has an export of a network from elsewhere, and no run.
    """
    if run is None:
        return Run.newest()
    if isinstance(run, Run):
        return run
    if (Path(run) / EXPORT_REPORT).exists() and not (Path(run) / CONFIG).exists():
        raise ExportError(
            f"{printable(run)} has no run of cnn-train: it was written by export_network, which has options of its "
            "own, such as quantize=True"
        )
    return Run.open(run)


def recorded_data(run: Run) -> dict[str, Any]:
    """Return what ``spec.json`` records about the data set.

    Returns:
        At least ``fingerprints`` (of the splits ``train``, ``val`` and ``test``) and ``test_pixels`` (a digest of the
        decoded test pictures); ``location`` is the folder or labels file, or missing or None for a named data set.

    Raises:
        ExportError: ``spec.json`` does not record them.
    """
    data = run.spec.details.get("data")
    if isinstance(data, dict) and isinstance(data.get("fingerprints"), dict):
        texts = (*data["fingerprints"].values(), data.get("test_pixels"), data.get("location") or "")
        if set(data["fingerprints"]) == {"train", "val", "test"} and all(isinstance(text, str) for text in texts):
            return data
    raise ExportError(f"{run.path / SPEC} is damaged: it does not describe the data set; train again")


def open_run_source(run: Run, data: str | os.PathLike[str] | None) -> Source:
    """Open the data set of a run.

    Args:
        run: The run.
        data: Where the data set is now; None for the place where it was in training.

    Raises:
        ExportError: it is not found, or cannot be read.
    """
    config, location = run.config, recorded_data(run).get("location")
    if data is not None:
        place = os.fspath(data)
    else:
        place = config.data if location is None or not os.path.exists(location) else location
    try:
        return open_source(
            place,
            data_dir=config.data_dir,
            seed=config.seed,
            classes=run.spec.classes,
            columns=config.columns if is_labels_file(place) else None,
            group=config.group,
            fold=config.fold,
        )
    except DataError as error:
        raise ExportError(
            f"export needs the data set of the run: {error}; pass data (--data) if it has moved"
        ) from error


def decode_test_split(run: Run, source: Source) -> tuple[Split, bool]:
    """Decode the test pictures of a run from their files.

    Returns:
        The test split, and whether its pixels are equal to those that the network was tested on.

    Raises:
        ExportError: the data set has other classes or other test pictures than the run.
    """
    data = recorded_data(run)
    place = source.location or source.name
    if source.classes != tuple(map(composed, run.spec.classes)):
        raise ExportError(f"{place} has other classes than the run: pass the data set of the run as data (--data)")
    for spelled in spellings(source):
        split, fingerprint, _ = read_split(spelled, "test", run.spec)
        if fingerprint == data["fingerprints"]["test"]:
            break
    else:
        raise ExportError(f"the test pictures in {place} are not those of the run: pass its data set as data (--data)")
    return split, pixel_digest(split.images) == data["test_pixels"]


def read_test_split(run: Run, source: Source) -> Split:
    """Decode the test pictures of a run from their files, and check that they have the pixels of the training.

    Raises:
        ExportError: the data set has other classes or other test pictures than the run.
        ParityError: the pixels differ, for example because a decoder has another version.
    """
    split, same = decode_test_split(run, source)
    if not same:
        raise parity_failure(
            run.path,
            "the test pictures are decoded to other pixels than the network was tested on "
            f"(resize filter {run.spec.filter}; {_decoder_versions(run)})",
            {},
        )
    return split


def read_validation_split(run: Run, source: Source) -> Split | None:
    """Decode the validation pictures of a run from their files; None, with a warning, if they are not those of the run.

    A model works as well without the histogram of their top probabilities. A guarantee (``--max-error``) needs them.
    """
    for spelled in spellings(source):
        split, fingerprint, _ = read_split(spelled, "val", run.spec)
        if fingerprint == recorded_data(run)["fingerprints"]["val"]:
            return split
    log.warning(
        f"the validation pictures in {source.location or source.name} are not those of the run: the model gets no "
        "histogram of them, so cnn-infer cannot tell whether the pictures of a folder are like them"
    )
    return None


def _decoder_versions(run: Run) -> str:
    """The versions of the decoders, installed and in training, in words."""
    trained = run.spec.details.get("versions", {})
    names = {"pillow": "Pillow", "simplejpeg": "simplejpeg"}
    return ", ".join(
        f"{name} {metadata.version(key)}, in training {trained.get(key, 'unknown')}" for key, name in names.items()
    )


def read_dataset(run: Run, source: Source) -> Dataset:
    """Read the training and validation pictures of a run through the cache.

    Raises:
        ExportError: a split does not have the pictures of the run.
    """
    spec, config = run.spec, run.config
    recorded = recorded_data(run)["fingerprints"]
    for spelled in spellings(source):
        dataset = prepare(
            spelled,
            size=(spec.height, spec.width),
            resize=spec.resize,
            filter=spec.filter,
            colour=spec.colour,
            cache=config.cache,
        )
        if dict(dataset.fingerprints) == recorded:
            return dataset
    names = [name for name, fingerprint in recorded.items() if dataset.fingerprints[name] != fingerprint]
    place = source.location or source.name
    raise ExportError(
        f"the {names[0]} pictures in {place} are not those of the run: pass its data set as data (--data)"
    )
