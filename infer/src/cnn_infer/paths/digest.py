"""A digest of a set of files, which tells whether it has changed since an interrupted run."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cnn_infer.archives.access import facts_of
from cnn_infer.errors import InputError


def digest_of(paths: Iterable[str]) -> str:
    """Return the SHA-256, hexadecimal, of the names, sizes and modification times of the files, in this order.

    For a file in an archive, size and time are those of the archive; for a URL, see :func:`facts_of`.
    """
    import hashlib  # imported late: it loads OpenSSL

    digest = hashlib.sha256()
    for path in paths:
        try:
            facts = facts_of(path)
        except (OSError, ValueError, InputError):  # the file cannot be read: its row has the error
            facts = "none"
        digest.update(os.fsencode(path) + b"\0" + facts.encode() + b"\n")
    return digest.hexdigest()
