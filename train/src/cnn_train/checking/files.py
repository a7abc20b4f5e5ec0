"""Files that cannot be read or are left out, and pictures of an unusual kind, size or shape."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.archives.access import folders_in, is_archive
from cnn_infer.paths.naming import printable
from cnn_infer.paths.skipped import is_system_name
from cnn_infer.pixels.convert import Header

from cnn_train.checking.copies import FLAT
from cnn_train.checking.finding import Finding
from cnn_train.data.headers import common_header
from cnn_train.data.split_checks import MOST_CROPPED
from cnn_train.data.tree import SPLIT_OF

if TYPE_CHECKING:
    from cnn_infer.spec import Resize

    from cnn_train.checking.pictures import Pictures
    from cnn_train.checking.survey import Survey
    from cnn_train.data.source import Source

RARE = 0.1
"""Largest share of the pictures that has an unusual mode: a mode that more pictures have is usual for the set."""

SMALLEST, FARTHEST = 0.5, 16.0
"""Least size as a share of the network's input, and greatest ratio between the pixels of a picture and the median."""

CONVERSIONS = {
    "CMYK": "the colours of print are converted to RGB",
    "I;16": "16 bits are divided by 257",
    "1": "black and white become 0 and 255",
    "several frames": "only the first frame is read",
    "transparency": "transparent pixels become white",
}
"""What happens to pictures of some modes: the first entry whose text is in the mode."""


def file_findings(pictures: Pictures, survey: Survey) -> Iterator[Finding]:
    """Yield unreadable files, files and folders that are left out, and pictures of one colour."""
    for at, reason in survey.reasons.items():
        yield Finding("unreadable", pictures.path(at), "", reason, at)
    where = _where(pictures.source)
    for note in pictures.source.notes:
        if note.startswith("left out: "):
            yield Finding("left-out", where, "", note.removeprefix("left out: "))
    for path in _system_folders(pictures.source):
        yield Finding("left-out", printable(path), "", "a hidden folder or one of the system is never a class")
    for at in np.flatnonzero(survey.readable & (survey.contrasts < FLAT)).tolist():
        detail = f"the standard deviation of its pixels is {survey.contrasts[at]:.1f} of 255"
        yield Finding("one-colour", pictures.path(at), "", detail, at, rank=-float(survey.contrasts[at]))


def _where(source: Source) -> str:
    return printable(source.path or source.name)


def _system_folders(source: Source) -> Iterator[str]:
    """Folders beside the classes and splits that are never searched."""
    if source.location is None or source.labels_file is not None or not is_folder(source.location):
        return
    places = [source.location]
    places += [os.path.join(source.location, name) for name in _folders(source.location) if name.lower() in SPLIT_OF]
    for place in places:
        yield from (os.path.join(place, name) for name in _folders(place) if is_system_name(name))


def is_folder(path: str) -> bool:
    """Whether a path is a folder or one in an archive."""
    return is_archive(path) or Path(path).is_dir()


def _folders(path: str) -> list[str]:
    if is_archive(path):
        return folders_in(path)
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())


def input_size(survey: Survey, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of the network's input: what was asked for, or what a training would choose."""
    if size is not None:
        return size
    shapes = np.unique(survey.sizes[survey.readable], axis=0)
    header = common_header({Header(int(width), int(height), False): 1 for width, height in shapes})
    return header.height, header.width


def shape_findings(pictures: Pictures, survey: Survey, size: tuple[int, int], resize: Resize) -> Iterator[Finding]:
    """Yield pictures of an unusual mode, EXIF orientation, size or shape.

    Args:
        pictures: All pictures.
        survey: What is known of them.
        size: Height and width of the network's input, in pixels.
        resize: How pictures are brought to that size.
    """
    rows = np.flatnonzero(survey.readable)
    counts = Counter(survey.modes[rows].tolist())
    rare = {mode for mode, count in counts.items() if count <= RARE * len(rows)}
    for at in rows[np.isin(survey.modes[rows], [*rare])].tolist():
        mode = survey.mode_names[survey.modes[at]]
        yield Finding("mode", pictures.path(at), "", f"{mode}{_conversion(mode)}", at)
    for at in rows[survey.orientations[rows] != 1].tolist():
        detail = f"EXIF orientation {survey.orientations[at]}: it is turned upright before it is resized"
        yield Finding("orientation", pictures.path(at), "", detail, at)
    yield from _sizes(pictures, survey, size)
    yield from _shapes(pictures, survey, size, resize)


def _conversion(mode: str) -> str:
    if mode in ("RGBA", "LA", "PA"):
        return f": {CONVERSIONS['transparency']}"
    known = next((text for part, text in CONVERSIONS.items() if part == mode or (len(part) > 1 and part in mode)), "")
    return f": {known}" if known else ", unlike most pictures of the set"


def _sizes(pictures: Pictures, survey: Survey, size: tuple[int, int]) -> Iterator[Finding]:
    rows = np.flatnonzero(survey.readable)
    if not len(rows):
        return
    sizes = survey.sizes[rows].astype(np.float64)
    share = np.minimum(sizes[:, 0] / size[1], sizes[:, 1] / size[0])
    areas = sizes.prod(axis=1)
    ratio = areas / np.median(areas)
    for row in np.flatnonzero((share < SMALLEST) | (np.abs(np.log(ratio)) > np.log(FARTHEST))).tolist():
        width, height = survey.sizes[rows[row]]
        small = share[row] < SMALLEST
        detail = f"{width} x {height} pixels" + (
            f" are enlarged to an input of {size[1]} x {size[0]}" if small else f", {ratio[row]:.2g} times the median"
        )
        at = int(rows[row])
        yield Finding("size", pictures.path(at), "", detail, at, rank=float(np.abs(np.log(ratio[row]))))


def _shapes(pictures: Pictures, survey: Survey, size: tuple[int, int], resize: Resize) -> Iterator[Finding]:
    rows = np.flatnonzero(survey.readable)
    sizes = survey.sizes[rows].astype(np.float64)
    ratio = sizes[:, 0] * size[0] / (sizes[:, 1] * size[1])
    lost = 1 - np.minimum(ratio, 1 / ratio)
    for row in np.flatnonzero(lost > MOST_CROPPED).tolist():
        (width, height), share, at = survey.sizes[rows[row]], lost[row], int(rows[row])
        what = {
            "crop": f"crop cuts off {share:.0%} of it",
            "pad": f"pad makes {share:.0%} of the input a border",
            "squash": f"squash stretches it {1 / (1 - share):.1f} times",
        }[resize]
        yield Finding("shape", pictures.path(at), "", f"{width} x {height} pixels: {what}", at, rank=float(share))
