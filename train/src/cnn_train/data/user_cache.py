"""The folder in which EdgeCNN keeps downloaded data sets and decoded pictures."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path

from cnn_train.errors import DataError

_NAME = "edgecnn"


def user_cache() -> Path:
    """Return the cache folder of this user, as an absolute path: ``~/.cache/edgecnn`` on Linux. It may not exist yet.

    Raises:
        DataError: the user has no home folder.
    """
    try:
        folder = user_cache_path(_NAME, appauthor=False, opinion=False)
        # Older releases of platformdirs follow a relative XDG_CACHE_HOME, which the XDG specification says to ignore.
        return folder if folder.is_absolute() else Path.home() / ".cache" / _NAME
    except RuntimeError as error:
        raise DataError("no home folder for the cache: set HOME, or name a folder with --cache") from error
