"""Where a training may write: never among the pictures that it reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from cnn_infer.paths.naming import printable

from cnn_train.data.source import Source
from cnn_train.errors import DataError


def check_outside(source: Source, folder: str | os.PathLike[str], option: str, *, replaced: bool = False) -> None:
    """Refuse to write into a data set: the next training would take what is written for classes and pictures.

    A hidden folder below the data set is allowed, since none is searched for pictures. A data set that is not a folder
    of pictures is never in the way.

    Args:
        source: The data set.
        folder: Where something will be written. It may not exist yet.
        option: Its name on the command line.
        replaced: Whether the folder's old content is removed. Then it must not contain the data set either.

    Raises:
        DataError: the folder is the data set's, lies in it, or would remove it.
    """
    if source.location is None:
        return
    data, place = Path(source.location).resolve(), Path(folder).resolve()
    if replaced and (data.is_relative_to(place) or place.is_relative_to(data)) and place.exists():
        raise DataError(f"{printable(folder)} belongs to the data set: name another place with {option}")
    if all(isinstance(split.pictures, np.ndarray) for split in source.splits.values()):
        return
    if place.is_relative_to(data) and not any(part.startswith(".") for part in place.relative_to(data).parts):
        raise DataError(
            f"{printable(folder)} lies in the data set {printable(source.location)}, and the next training would take "
            f"what is in it for pictures: name another place with {option}"
        )
