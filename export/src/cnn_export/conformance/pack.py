"""The conformance files of one model file, with what they give on the machine that exports."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from cnn_infer import Spec
from cnn_infer.archives.access import size_of
from cnn_infer.console import quantity
from cnn_infer.errors import EdgeCNNError, PictureError
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.pixels.open import open_file
from cnn_infer.pixels.read import read_file
from cnn_infer.proof.conformance import TOP, ConformanceFile, pack, recorded
from cnn_train import Source
from numpy.typing import NDArray

from cnn_export.conformance.draw import PictureFile, drawn_files
from cnn_export.selection import classes_in_turn

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 10
"""Largest size of all test pictures together that a model file carries as files, in bytes."""

Probabilities = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Returns the probabilities, float32 (n, classes), that a model gives for pictures, uint8 (n, h, w, c)."""


def own_files(source: Source, spec: Spec, most: int) -> list[PictureFile]:
    """Return some of the user's own test pictures as they are: classes in turn, the smallest files of a class first.

    Args:
        source: The data set. One of arrays has no files.
        spec: The specification of the run.
        most: Largest number of files; together they have at most :data:`MAX_BYTES`.
    """
    records = source.splits["test"]
    if isinstance(records.pictures, np.ndarray) or not most:
        return []
    sizes = np.array([_size(path) for path in records.pictures])
    found: list[PictureFile] = []
    left = MAX_BYTES
    for index in classes_in_turn(records.labels, np.argsort(sizes, kind="stable")):
        if len(found) == most:
            break
        if sizes[index] > left:
            continue
        try:
            data = read_file(records.pictures[int(index)], max_bytes=left)
            to_pixels(data, spec)
        except PictureError:  # training left it out too
            continue
        found.append(PictureFile(f"test picture {len(found)}, {open_file(data).format}", data))
        left -= len(data)
    if found:
        size = sum(len(file.data) for file in found) / 1024
        log.info(
            f"the model carries {quantity(len(found), 'test picture')} as {'a file' if len(found) == 1 else 'files'} "
            f"with EXIF data, {size:.0f} KiB, for --verify: --golden 0 leaves them out"
        )
    else:
        log.info(f"the model has no test pictures as files for --verify: none has at most {MAX_BYTES >> 10} KiB")
    return found


def _size(path: str) -> int:
    try:
        return size_of(path)
    except (OSError, EdgeCNNError):
        return MAX_BYTES + 1


def conformance_files(files: Sequence[PictureFile], spec: Spec, probabilities: Probabilities) -> str:
    """Return the metadata of a model file: files with their pixels after each stage and their probabilities.

    Args:
        files: The user's own test pictures; drawn ones are added.
        spec: The specification of the model.
        probabilities: The model.
    """
    every = [(file, True) for file in files] + [(file, False) for file in drawn_files(spec)]
    return pack(_with_results(file, own, spec, probabilities) for file, own in every)


def _with_results(file: PictureFile, own: bool, spec: Spec, probabilities: Probabilities) -> ConformanceFile:
    # one at a time, because a picture may have 4096 x 4096 pixels
    (row,) = probabilities(np.stack([to_pixels(file.data, spec)]))
    largest = np.argsort(-row, kind="stable")[:TOP].tolist()
    return ConformanceFile(
        name=file.name,
        format=str(open_file(file.data).format),
        own=own,
        data=file.data,
        stages=recorded(file.data, spec),
        probabilities={index: float(row[index]) for index in largest},
    )
