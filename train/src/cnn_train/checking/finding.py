"""The kinds of findings, what to do about each, and one finding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of finding.

    Attributes:
        title: What it is, for tables and the contact sheet.
        problem: Whether ``--strict`` fails because of it; the other kinds are notes.
        advice: What to do about it, one sentence.
    """

    title: str
    problem: bool
    advice: str


KINDS: Mapping[str, Kind] = {
    "unreadable": Kind("unreadable file", True, "repair or remove it: a training leaves it out"),
    "left-out": Kind("left out", False, "move it out of the data set, or convert it to a picture format that is read"),
    "class-name": Kind(
        "folder that is hardly a class",
        True,
        "move it out of the data set if it is no class; a split needs a train folder beside it",
    ),
    "small-class": Kind("nearly empty class", True, "add pictures, or merge the class with another one"),
    "missing-class": Kind("class without pictures in a split", True, "add pictures of the class to the split"),
    "imbalance": Kind("classes of unequal size", False, "pass --balance, or add pictures to the small classes"),
    "copy": Kind("exact copy within a split", True, "keep one of the files: a split that is drawn can part copies"),
    "copy-across-splits": Kind(
        "exact copy in another split", True, "remove one of the two: the accuracy of the other split is too high"
    ),
    "near-duplicate": Kind(
        "near duplicate within a split", True, "keep one, or keep them together with --group: drawn splits part them"
    ),
    "near-duplicate-across-splits": Kind(
        "near duplicate in another split", True, "remove one of the two: the accuracy of the other split is too high"
    ),
    "two-labels": Kind("copy with another label", True, "decide which label is right and remove the other file"),
    "one-colour": Kind("picture of nearly one colour", True, "look at it and remove it if it shows nothing"),
    "mode": Kind("unusual kind of picture", False, "look at it: it is converted as the detail says"),
    "orientation": Kind(
        "turned by EXIF", False, "nothing to do for cnn-train and cnn-infer; other programs may show it lying"
    ),
    "size": Kind("unusual size", False, "replace it by a larger or smaller version, or choose another --size"),
    "shape": Kind("unusual shape", False, "choose --resize pad, or a --size HEIGHTxWIDTH of their shape"),
    "doubted-label": Kind("label that the network doubts", False, "look at it and correct the label if it is wrong"),
}
"""All kinds by the name that stands in files, in the order of tables."""


class Finding(NamedTuple):
    """One finding.

    Attributes:
        kind: A name in :data:`KINDS`.
        path: The path of the file, ``test[17]`` if there are no files, or the name of a class or of the data set.
        partner: The path of the other picture of a pair; empty for other kinds.
        detail: What was found, in words.
        at: Position of the picture among all pictures; None if the finding is no picture.
        partner_at: Position of the other picture; None without one.
        rank: The greater, the worse, among findings of the same kind.
    """

    kind: str
    path: str
    partner: str
    detail: str
    at: int | None = None
    partner_at: int | None = None
    rank: float = 0.0

    @property
    def advice(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].advice
