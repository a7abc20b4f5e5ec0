"""Archives at URLs: each is copied once into a temporary file without a name, which the system removes.

An archive is read in the order of names, not of bytes: from a copy, thousands of pictures take no request each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from typing import IO

from cnn_infer.console import progress
from cnn_infer.errors import InputError
from cnn_infer.storage.urls import shown


def copied(url: str) -> IO[bytes]:
    """Return a temporary file with the bytes of an object.

    Raises:
        InputError: it cannot be read, or the disk has less space than the object has bytes.
    """
    from cnn_infer.storage.objects import download, look_up

    found = look_up(url)
    size = 0 if found is None or found.size is None else found.size
    folder = tempfile.gettempdir()
    if size > shutil.disk_usage(folder).free:
        raise InputError(
            f"{shown(url)} has {size:,} bytes, more than are free in {folder}: "
            "free space, or set TMPDIR to another folder"
        )
    try:
        with (
            ExitStack() as opened,
            progress(f"copying {os.path.basename(shown(url))}", size >> 20 or None, unit="MB") as advance,
        ):
            stream = opened.enter_context(tempfile.TemporaryFile(prefix="cnn-infer-"))
            most = 0  # of all attempts, so that the bar never passes its end

            def count(done: int) -> None:
                nonlocal most
                if done >> 20 > most:
                    advance((done >> 20) - most)
                    most = done >> 20

            download(url, stream, count)
            stream.seek(0)
            opened.pop_all()  # it is the caller's
            return stream
    except OSError as error:
        raise InputError(
            f"cannot copy {shown(url)} into a temporary file: {error.strerror or error} "
            "(free space, or set TMPDIR to another folder)"
        ) from error
