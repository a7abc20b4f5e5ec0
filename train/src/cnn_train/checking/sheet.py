"""The contact sheet: the worst findings of each kind, as labelled thumbnails in one PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from cnn_infer.errors import PictureError
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.spec import Spec
from cnn_infer.system.atomic import replacing
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from cnn_train.checking.finding import KINDS, Finding

if TYPE_CHECKING:
    from cnn_train.checking.pictures import Pictures

ACROSS = 8
"""Thumbnails in a row: one row per kind, eight pictures or four pairs."""

SIDE, GAP, LINE = 128, 8, 14
"""Sides of a thumbnail, distances and height of a line of text, in pixels."""

_HEAD, _CAPTIONS = 2 * LINE, 4 * LINE
_ROW = _HEAD + SIDE + _CAPTIONS + GAP


def write_sheet(path: Path, findings: Mapping[str, Sequence[Finding]], pictures: Pictures) -> bool:
    """Draw the sheet; return False, and write nothing, if no finding is a picture that can be drawn.

    Args:
        path: The PNG file.
        findings: The findings of each kind.
        pictures: All pictures.
    """
    rows = {kind: worst for kind, found in findings.items() if (worst := _worst(found))}
    if not rows:
        return False
    font = ImageFont.truetype(findfont("DejaVu Sans"), 10)
    bold = ImageFont.truetype(findfont("DejaVu Sans:bold"), 12)
    sheet = Image.new("RGB", (GAP + ACROSS * (SIDE + GAP), GAP + len(rows) * _ROW), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (kind, worst) in enumerate(rows.items()):
        top = GAP + number * _ROW
        draw.text((GAP, top), f"{KINDS[kind].title}: {len(findings[kind]):,}", "black", bold)
        place = 0
        for finding in worst:
            left = GAP + place * (SIDE + GAP)
            both = [(finding.at, finding.path), (finding.partner_at, finding.partner)]
            shown = [(at, path) for at, path in both if at is not None]
            for offset, (at, name) in enumerate(shown):
                x, y = left + offset * (SIDE + GAP), top + _HEAD
                sheet.paste(_thumbnail(pictures, at), (x, y))
                draw.rectangle((x - 1, y - 1, x + SIDE, y + SIDE), outline="#888888")
                for line, text in enumerate(_caption(name, pictures.source.location)):
                    draw.text((x, y + SIDE + 2 + line * LINE), _end(text, font, SIDE), "black", font)
            width = len(shown) * (SIDE + GAP) - GAP
            for line, text in enumerate(_wrapped(finding.detail, font, width)):
                draw.text((left, top + _HEAD + SIDE + 2 + (2 + line) * LINE), text, "#555555", font)
            place += len(shown)
    with replacing(path) as stream:
        sheet.save(stream, "PNG")
    return True


def _worst(found: Sequence[Finding]) -> list[Finding]:
    """The first findings that fit into a row, the worst ones first."""
    drawn = sorted((finding for finding in found if finding.at is not None), key=lambda finding: -finding.rank)
    return drawn[: ACROSS // 2 if drawn and drawn[0].partner_at is not None else ACROSS]


def _thumbnail(pictures: Pictures, at: int) -> Image.Image:
    """The whole picture on grey ground; a cross for one that cannot be read."""
    try:
        spec = Spec(("a", "b"), SIDE, SIDE, "rgb", "pad", "bilinear", zero_point=0, scale=1 / 255)
        found = pictures[at]
        if isinstance(found, np.ndarray) and max(found.shape[:2]) < SIDE:  # large pixels rather than a blur
            factor = SIDE // max(found.shape[:2])
            found = found.repeat(factor, axis=0).repeat(factor, axis=1)
        return Image.fromarray(to_pixels(found, spec))
    except PictureError:
        broken = Image.new("RGB", (SIDE, SIDE), "#eeeeee")
        draw = ImageDraw.Draw(broken)
        draw.line((0, 0, SIDE, SIDE), "#bb3344", 2)
        draw.line((0, SIDE, SIDE, 0), "#bb3344", 2)
        return broken


def _caption(path: str, location: str | None) -> tuple[str, str]:
    """The folder of a picture, relative to the data set, and its name."""
    folder, _, name = path.removeprefix(f"{location}/").rpartition("/")
    return folder, name


def _end(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The end of a path that fits into a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, most: int = 2) -> list[str]:
    """Text in lines that fit into a width in pixels; what is more than ``most`` lines is left out."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = lines if lines[0] else lines[1:]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " …"]
