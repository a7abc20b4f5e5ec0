"""All pictures of a data set in one sequence, whatever its form: files, members of archives, or arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.paths.naming import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_train.data.source import Source


@dataclass(frozen=True)
class Pictures:
    """The n pictures of all splits, one split after the other: ``train``, ``val``, ``test``.

    Attributes:
        source: The data set. It may lack the splits ``val`` and ``test``.
    """

    source: Source

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.source.splits)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64 (splits + 1,): the position of the first picture of each split, and n."""
        return np.cumsum([0, *(len(records.labels) for records in self.source.splits.values())])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64 (n,), class indices."""
        return np.concatenate([records.labels for records in self.source.splits.values()])

    @cached_property
    def splits(self) -> NDArray[np.int8]:
        """int8 (n,), the index of the split of each picture."""
        return np.repeat(np.arange(len(self.names), dtype=np.int8), np.diff(self.starts))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __iter__(self) -> Iterator[str | NDArray[np.uint8]]:
        for records in self.source.splits.values():
            yield from records.pictures

    def __getitem__(self, at: int) -> str | NDArray[np.uint8]:
        """The path of a picture, or its pixels, uint8 (h, w, c)."""
        split = int(self.splits[at])
        found: str | NDArray[np.uint8] = self.source.splits[self.names[split]].pictures[at - int(self.starts[split])]
        return found

    def path(self, at: int) -> str:
        """The path of a picture, printable, or ``test[17]`` if there are no files."""
        split = int(self.splits[at])
        found = self[at]
        return printable(found) if isinstance(found, str) else f"{self.names[split]}[{at - int(self.starts[split])}]"

    def label(self, at: int) -> str:
        """The class of a picture."""
        return self.source.classes[int(self.labels[at])]
