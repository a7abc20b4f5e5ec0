"""Exact copies and near duplicates: within a split, in another split, and with another label.

Exact copies have equal bytes. Near duplicates have close perceptual hashes (:mod:`cnn_train.checking.hashes`), one of
them perhaps that of the mirror image, and details that agree: the correlation of what
:func:`cnn_train.checking.survey.details_of` returns is the similarity, -1 to 1. Found are pictures that were saved
again, resized, brightened, given another contrast or mirrored. Rotated and strongly cropped ones are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.console import progress

from cnn_train.checking.finding import Finding
from cnn_train.checking.hashes import STEPS, close_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_train.checking.pictures import Pictures
    from cnn_train.checking.survey import Survey

SIMILAR = 0.5
"""Least similarity of near duplicates. Chosen by looking at pairs of CIFAR-10."""

NEARLY_EQUAL = 0.99
"""The same for sets of look-alikes, such as clothes on black ground. Chosen by looking at pairs of Fashion-MNIST."""

LOOK_ALIKES = 0.25
"""Share of pictures with a close hash above which a set is one of look-alikes."""

TINY = 16
"""Median side in pixels below which a set is one of look-alikes too: such pictures have few details."""

FLAT = 3.0
"""Standard deviation of the pixels below which a picture has one colour, so that its details are only noise."""

_BLOCK = 1024  # pairs whose details are in memory at a time


class _Partners:
    """For each picture the best partner among the earlier ones.

    Attributes:
        similarity: float32 (n,), -1 without a partner.
        partner: int64 (n,).
        mirrored: bool (n,).
    """

    def __init__(self, count: int) -> None:
        self.similarity = np.full(count, -1, np.float32)
        self.partner = np.full(count, -1, np.int64)
        self.mirrored = np.zeros(count, np.bool_)

    def offer(
        self, i: NDArray[np.int64], j: NDArray[np.int64], similarity: NDArray[np.float32], mirrored: bool
    ) -> None:
        """Take the pairs that are better than what is known."""
        order = np.argsort(similarity, kind="stable")  # of several values for one place the last one stays
        order = order[similarity[order] > self.similarity[i[order]]]
        rows = i[order]
        self.similarity[rows], self.partner[rows], self.mirrored[rows] = similarity[order], j[order], mirrored


def exact_copies(pictures: Pictures, survey: Survey) -> tuple[list[Finding], NDArray[np.int64]]:
    """Find files with equal bytes, and arrays with equal pixels.

    Returns:
        The findings, and the positions, int64, of the readable pictures that are no copies of an earlier one.
    """
    readable = np.flatnonzero(survey.readable)
    if not len(readable):
        return [], readable
    digests = survey.digests[readable]
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equal ones stay in the order of the pictures
    rows, ordered = readable[order], digests[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    found: list[Finding] = []
    for start, end in zip(starts, np.r_[starts[1:], len(rows)], strict=True):
        first, *others = rows[start:end].tolist()
        for at in others:
            across = pictures.splits[at] != pictures.splits[first]
            found.append(_finding(pictures, "copy-across-splits" if across else "copy", at, first, "equal bytes"))
            if pictures.labels[at] != pictures.labels[first]:
                found.append(_two_labels(pictures, at, first, "equal bytes", 1.0))
    return found, np.sort(rows[starts])


def near_duplicates(
    pictures: Pictures, survey: Survey, single: NDArray[np.int64]
) -> tuple[list[Finding], float, float]:
    """Find near duplicates.

    Args:
        pictures: All pictures.
        survey: What is known of them.
        single: int64, the positions of the pictures to compare.

    Returns:
        The findings, the least similarity that was asked for, and the share of pictures with a close hash.
    """
    single = single[survey.contrasts[single] >= FLAT]
    kinds = {
        name: _Partners(len(pictures)) for name in ("near-duplicate", "near-duplicate-across-splits", "two-labels")
    }
    alike = np.zeros(len(pictures), np.bool_)
    hashes = survey.hashes[single]
    with progress("comparing pictures", 2 * STEPS, unit="steps") as advance:
        for mirrored in (False, True):
            for left, right in close_pairs(hashes[:, int(mirrored)], hashes[:, 0], advance):
                i, j = single[left], single[right]
                alike[i] = alike[j] = True
                for part in _parts(len(i)):
                    similarity = _similarity(survey.details, i[part], j[part], mirrored)
                    _offer(kinds, pictures, i[part], j[part], similarity, mirrored)
    share = float(alike[single].mean()) if len(single) else 0.0
    tiny = len(single) > 0 and float(np.median(survey.sizes[single])) < TINY
    least = NEARLY_EQUAL if tiny or share > LOOK_ALIKES else SIMILAR
    found: list[Finding] = []
    for name, partners in kinds.items():
        for at in np.flatnonzero(partners.similarity >= least).tolist():
            rank, other = float(partners.similarity[at]), int(partners.partner[at])
            detail = f"similarity {rank:.2f}{', mirrored' if partners.mirrored[at] else ''}"
            if name == "two-labels":
                found.append(_two_labels(pictures, at, other, detail, rank))
            else:
                found.append(_finding(pictures, name, at, other, detail, rank))
    return found, least, share


def _offer(
    kinds: dict[str, _Partners],
    pictures: Pictures,
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    similarity: NDArray[np.float32],
    mirrored: bool,
) -> None:
    across = pictures.splits[i] != pictures.splits[j]
    contradicting = pictures.labels[i] != pictures.labels[j]
    chosen = {"near-duplicate": ~across, "near-duplicate-across-splits": across, "two-labels": contradicting}
    for name, keep in chosen.items():
        kinds[name].offer(i[keep], j[keep], similarity[keep], mirrored)


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def _similarity(
    details: NDArray[np.int8], i: NDArray[np.int64], j: NDArray[np.int64], mirrored: bool
) -> NDArray[np.float32]:
    """The correlation of the details of pairs, float32 (k,), -1 to 1; that of the mirrored i if ``mirrored``."""
    first, second = details[i], details[j]
    if mirrored:
        first = first[:, :, ::-1]
    left, right = (np.ascontiguousarray(part).reshape(len(i), -1).astype(np.float32) for part in (first, second))
    dot = np.einsum("nk,nk->n", left, right)
    norms = np.sqrt(np.einsum("nk,nk->n", left, left) * np.einsum("nk,nk->n", right, right))
    result: NDArray[np.float32] = dot / np.maximum(norms, 1e-6)
    return result


def _finding(pictures: Pictures, kind: str, at: int, other: int, detail: str, rank: float = 1.0) -> Finding:
    return Finding(kind, pictures.path(at), pictures.path(other), detail, at, other, rank)


def _two_labels(pictures: Pictures, at: int, other: int, detail: str, rank: float) -> Finding:
    text = f"{pictures.label(at)} and {pictures.label(other)}, {detail}"
    return _finding(pictures, "two-labels", at, other, text, rank)
