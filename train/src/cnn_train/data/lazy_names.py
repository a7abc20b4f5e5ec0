"""The names of many pictures in little memory: each is made when it is needed, so a million need no million strings."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Names(Sequence[str]):
    """A sequence of names that are made on access. Each takes 8 bytes, its position.

    Args:
        name_of: Returns the name at a position.
        positions: int64 (n,), in the order of the sequence.
    """

    def __init__(self, name_of: Callable[[int], str], positions: NDArray[np.int64]) -> None:
        self._name_of = name_of
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Names: ...

    def __getitem__(self, at: int | slice) -> str | Names:
        if isinstance(at, slice):
            return Names(self._name_of, self._positions[at])
        return self._name_of(int(self._positions[at]))

    def selected(self, chosen: NDArray[np.int64]) -> Names:
        """Return the names at the indices ``chosen``, int64 (k,), in that order."""
        return Names(self._name_of, self._positions[chosen])


def packed(folder: str | os.PathLike[str], paths: Iterable[str]) -> Names:
    """Store the paths of files in ``folder``: the parts below the folder, as bytes, one after the other.

    Args:
        folder: The folder that all paths start with.
        paths: Each consumed once, in order.
    """
    start = os.path.join(folder, "")
    text, ends = bytearray(), array("q", [0])
    for path in paths:
        text += os.fsencode(path[len(start) :])
        ends.append(len(text))
    return Names(lambda at: start + os.fsdecode(bytes(text[ends[at] : ends[at + 1]])), np.arange(len(ends) - 1))
