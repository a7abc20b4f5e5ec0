"""True classes of pictures from a labels file."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cnn_infer.errors import InputError
from cnn_infer.paths.labels_file import COLUMNS, read_rows
from cnn_infer.paths.naming import composed, printable


class Truth:
    """The labels of pictures by their paths. It takes about 200 bytes of memory for each row.

    Rows without a label count as absent. A name without the extension of a picture stands for the pictures whose name
    without extension it is.

    Args:
        path: The labels file; see :func:`cnn_infer.paths.labels_file.read_rows`. Its paths start in its folder.
        columns: The columns of the picture and of its class.

    Attributes:
        path: The labels file.
        digest: SHA-256, hexadecimal, of the names and labels in it.

    Raises:
        InputError: the file cannot be read or is damaged, has no label, or gives a picture two labels.
    """

    def __init__(self, path: str | os.PathLike[str], columns: Sequence[str] = COLUMNS) -> None:
        self.path = os.fspath(path)
        self._start = os.path.join(os.path.dirname(os.path.abspath(path)), "")
        self._labels: dict[str, str] = {}
        digest = hashlib.sha256()
        for row in read_rows(path, columns):
            digest.update(f"{row.name}\0{row.label}\0".encode("utf-8", "surrogatepass"))
            if row.label:
                label = sys.intern(composed(row.label))
                if self._labels.setdefault(composed(row.name), label) != label:
                    raise InputError(
                        f"{printable(path)} line {row.line} gives {printable(row.name)} a second label: "
                        "leave one row per picture"
                    )
        self.digest = digest.hexdigest()
        if not self._labels:
            raise InputError(f"no row of {printable(path)} has a label")

    def __len__(self) -> int:
        """Number of pictures with a label."""
        return len(self._labels)

    def labels(self) -> list[str]:
        """Return the different labels, sorted, in Unicode's composed form."""
        return sorted(set(self._labels.values()))

    def label_of(self, picture: str) -> str | None:
        """Return the label of the picture at a path, or None if no row has one for it."""
        path = os.path.abspath(picture)
        if not path.startswith(self._start):
            return None
        name = composed(Path(path[len(self._start) :]).as_posix())
        return self._labels.get(name) or self._labels.get(os.path.splitext(name)[0])
