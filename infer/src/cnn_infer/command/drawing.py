"""A drawing of what speaks for and against the answer for a picture.

It shows the picture twice, in grey: on the left the evidence for the most probable class, on the right that for the
second most probable one. Orange speaks for the class, blue against it: colours that people with every common kind of
colour blindness tell apart. Both halves have the same scale; the strongest cell of the two has the full colour.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnn_infer.explanation import Explanation
from cnn_infer.pixels.convert import decode, read_header
from cnn_infer.pixels.resize import image_of, source_ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Spec

FOR, AGAINST = (230, 97, 1), (5, 113, 176)
"""Orange and blue, RGB (https://colorbrewer2.org, for colour-blind readers)."""

STRENGTH = 0.75
"""The share of the colour in the strongest cell."""

LONGEST_SIDE = 2000
"""Longest side of each half of a drawing in pixels; a larger picture is drawn smaller."""

LIGHTEST_BLACK, PALER = 56, np.float32(0.75)
"""Black and contrast of the grey picture: paler than the original, so that colours are seen in its shadows too."""

LEAST_CAPTION = 160
"""Width in pixels from which a half has a caption."""


def drawing(image: Image.Image, found: Explanation, spec: Spec) -> Image.Image:
    """Draw the evidence for the two classes over a picture.

    Args:
        image: The picture, upright, of any size.
        found: Its explanation.
        spec: The model's specification, with the way in which the picture was fitted to its input.

    Returns:
        RGB, the picture twice side by side.
    """
    classes = (found.winner, found.runner_up)
    strongest = max(float(np.abs(part.evidence).max()) for part in classes) or 1.0
    grey = np.repeat(np.float32(LIGHTEST_BLACK) + PALER * np.asarray(image.convert("L"))[:, :, None], 3, axis=2)
    gap, caption = max(2, image.width // 50), _caption_height(image.width)
    result = Image.new("RGB", (2 * image.width + gap, image.height + caption), "white")
    for number, part in enumerate(classes):
        left = number * (image.width + gap)
        strength = _over_picture(part.evidence / np.float32(strongest), found, spec, image.size)
        result.paste(Image.fromarray(_coloured(grey, strength)), (left, caption))
        if caption:
            text = f"{part.name}: logit {part.logit:.2f}"
            font = ImageFont.load_default(caption * 0.7)
            ImageDraw.Draw(result).text((left + 2, 1), _shortened(text, font, image.width - 4), "black", font)
    return result


def picture_to_draw(data: bytes, spec: Spec, *, max_pixels: int, max_bytes: int) -> Image.Image:
    """Decode a picture file upright in RGB, at its own size, or smaller with sides of at most :data:`LONGEST_SIDE`.

    Raises:
        PictureError: it cannot be read.
    """
    header = read_header(data, max_pixels=max_pixels, max_bytes=max_bytes)
    factor = min(1, LONGEST_SIDE / max(header.width, header.height))
    width, height = (max(1, round(side * factor)) for side in (header.width, header.height))
    # decoders leave out detail that a model's small input does not need: this one is as large as the drawing
    shown = replace(spec, height=height, width=width, colour="rgb", resize="squash")
    image = image_of(decode(data, shown, max_pixels=max_pixels, max_bytes=max_bytes))
    return image if image.size == (width, height) else image.resize((width, height))


def _over_picture(
    evidence: NDArray[np.float32], found: Explanation, spec: Spec, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Spread cells over a picture: each colours the middle of what it sees, as wide as cells are apart.

    Args:
        evidence: float32 (rows, columns).
        found: The explanation, with what a cell sees.
        spec: The model's specification.
        size: Width and height of the picture.

    Returns:
        float32 (height, width); 0 where no cell looks.
    """
    field, (width, height) = found.receptive_field, size
    across, down = source_ratio(width, height, spec)
    moves = []
    # column = ((x - width / 2) / across + spec.width / 2 - first border) / step
    for axis, side, inside, ratio in ((1, width, spec.width, across), (0, height, spec.height, down)):
        border = field.centre(0, 0)[axis] - field.step[axis] / 2
        moves.append((1 / (ratio * field.step[axis]), (inside / 2 - side / 2 / ratio - border) / field.step[axis]))
    (per_x, left), (per_y, top) = moves
    cells = Image.fromarray(np.ascontiguousarray(evidence))
    spread = cells.transform(size, Image.Transform.AFFINE, (per_x, 0, left, 0, per_y, top), Image.Resampling.NEAREST)
    return np.asarray(spread)


def _coloured(grey: NDArray[np.float32], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend a grey picture, float32 (h, w, 3), with the colours of the evidence, -1 to 1, float32 (h, w), to uint8."""
    share = STRENGTH * np.abs(strength)[:, :, None]
    colour = np.where(strength[:, :, None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    return np.round(grey * (1 - share) + colour * share).astype(np.uint8)


def _caption_height(width: int) -> int:
    return max(16, width // 20) if width >= LEAST_CAPTION else 0


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened so that it fits into ``width`` pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text.rstrip('…')[:-1]}…"
    return text
