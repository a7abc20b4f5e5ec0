"""Where a training may write: never among the pictures that it reads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from cnn_infer.paths.naming import printable

from cnn_train.data.source import Source
from cnn_train.errors import DataError


def check_outside(source: Source, folder: str | os.PathLike[str], option: str) -> None:
    """Refuse a folder in which the next training would take what is written for classes and pictures.

    A hidden folder is not looked into, and a data set that is no folder of pictures takes nothing for one.

    Args:
        source: The data set.
        folder: Where something is to be written; it may not exist yet.
        option: What names it on the command line.

    Raises:
        DataError: it is the data set's folder, or lies in it.
    """
    if source.location is None or all(isinstance(split.pictures, np.ndarray) for split in source.splits.values()):
        return
    data, place = Path(source.location).resolve(), Path(folder).resolve()
    if place.is_relative_to(data) and not any(part.startswith(".") for part in place.relative_to(data).parts):
        raise DataError(
            f"{printable(folder)} lies in the data set {printable(source.location)}, and the next training would take "
            f"what is in it for pictures: name another place with {option}"
        )
