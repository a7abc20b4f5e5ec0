"""The guard against writing into the data set that a training reads, or into a folder with the name of a URL."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from cnn_infer.paths.naming import printable
from cnn_infer.storage.urls import was_url

from cnn_train.data.source import Source
from cnn_train.errors import DataError


def check_outside(source: Source, folder: str | os.PathLike[str], option: str, *, replaced: bool = False) -> None:
    """Refuse a folder whose files the next training would read as classes or pictures.

    Hidden folders inside a data set are allowed, because they are not searched for pictures, and so is any folder
    inside a data set without picture files (IDX files, pickles) or with a labels file, which names its pictures.

    Args:
        source: The data set.
        folder: The folder that will be written. It may not exist yet.
        option: The name of the option that chose the folder, for the message.
        replaced: Whether the content of an existing folder is removed first. Then it must neither contain the data
            set nor be inside it, not even hidden.

    Raises:
        DataError: the folder is inside the data set, its replacement would remove a part of the data set, or it was
            given as a URL.
    """
    if was_url(folder):
        raise DataError(f"{option} names a folder of this machine, not a URL: {printable(folder)}")
    if source.location is None:
        return
    data, place = Path(source.location).resolve(), Path(folder).resolve()
    inside = place.is_relative_to(data)
    if replaced and place.exists():
        refused = inside or data.is_relative_to(place)
    else:
        searched = source.labels_file is None and any(
            not isinstance(split.pictures, np.ndarray) for split in source.splits.values()
        )
        refused = inside and searched and not any(part.startswith(".") for part in place.relative_to(data).parts)
    if refused:
        raise DataError(
            f"{printable(folder)} {'lies in' if inside else 'contains'} the data set {printable(source.location)}: "
            f"name another folder with {option}"
        )
