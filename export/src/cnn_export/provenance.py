"""The data behind a run: found again, and shown to be what the network was trained and tested on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from cnn_infer.run_files import FAILED_REPORT, SPEC
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text
from cnn_train import DataError, Dataset, Run, Source, Split, open_source, prepare
from cnn_train.replay import pixel_digest, read_split

from cnn_export.errors import ExportError, ParityError


def recorded_data(run: Run) -> dict[str, Any]:
    """What ``spec.json`` says of the data: ``location``, ``fingerprints`` of the three splits, ``test_pixels``.

    Raises:
        ExportError: it does not say all of it.
    """
    data = run.spec.details.get("data")
    if isinstance(data, dict) and isinstance(data.get("fingerprints"), dict):
        texts = (*data["fingerprints"].values(), data.get("test_pixels"), data.get("location") or "")
        if set(data["fingerprints"]) == {"train", "val", "test"} and all(isinstance(text, str) for text in texts):
            return data
    raise ExportError(f"{run.path / SPEC} is damaged, it does not say what the data was: train again")


def open_run_source(run: Run, data: str | os.PathLike[str] | None) -> Source:
    """The run's data set: in ``data`` where that is given, else where it was.

    Raises:
        ExportError: it is not there.
    """
    config, location = run.config, recorded_data(run).get("location")
    if data is not None:
        place = os.fspath(data)
    else:
        place = config.data if location is None or not os.path.isdir(location) else location
    try:
        return open_source(place, data_dir=config.data_dir, seed=config.seed)
    except DataError as error:
        raise ExportError(f"parity needs the run's data set: {error}; pass --data if it has moved") from error


def decode_test_split(run: Run, source: Source) -> tuple[Split, bool]:
    """The test pictures of the run, decoded now from the files' bytes, and whether these are its pixels as well."""
    data = recorded_data(run)
    place = source.location or source.name
    if source.classes != run.spec.classes:
        raise ExportError(f"{place} has other classes than the run was trained on: pass --data with the run's data set")
    split, fingerprint, _ = read_split(source, "test", run.spec)
    if fingerprint != data["fingerprints"]["test"]:
        raise ExportError(f"the test pictures in {place} are not those of the run: pass --data with the run's data set")
    return split, pixel_digest(split.images) == data["test_pixels"]


def read_test_split(run: Run, source: Source) -> Split:
    """The test pictures, decoded now from the files' bytes, and shown to be those of the run."""
    split, same = decode_test_split(run, source)
    if not same:
        raise parity_failure(
            run,
            "the test pictures decode to other pixels than the network was tested on "
            f"(filter {run.spec.filter}; {_decoders(run)})",
            {},
        )
    return split


def _decoders(run: Run) -> str:
    """The versions of what decodes, here and where the run was trained."""
    trained = run.spec.details.get("versions", {})
    names = {"pillow": "Pillow", "simplejpeg": "simplejpeg"}
    return ", ".join(
        f"{name} {metadata.version(key)}, trained with {trained.get(key, 'unknown')}" for key, name in names.items()
    )


def read_dataset(run: Run, source: Source) -> Dataset:
    """Training and validation pictures, through the cache, shown to be those of the run."""
    spec, config = run.spec, run.config
    dataset = prepare(
        source,
        size=(spec.height, spec.width),
        resize=spec.resize,
        filter=spec.filter,
        colour=spec.colour,
        cache=config.cache,
    )
    for name, fingerprint in recorded_data(run)["fingerprints"].items():
        if dataset.fingerprints[name] != fingerprint:
            place = source.location or source.name
            raise ExportError(f"the {name} pictures in {place} are not those of the run: pass --data")
    return dataset


def finite(value: Any) -> Any:
    """A document as JSON can hold it, which has no NaN and no infinity: they become text."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parity_failure(run: Run, reason: str, evidence: Mapping[str, Any]) -> ParityError:
    """Write the evidence and make the error that names it."""
    path = run.path / FAILED_REPORT
    document = {"reason": reason, "parity": evidence, "machine": machine.description()}
    write_text(path, json.dumps(finite(document), ensure_ascii=False, indent=2) + "\n")
    return ParityError(f"parity failed: {reason}; nothing was exported, the evidence is in {path}")
