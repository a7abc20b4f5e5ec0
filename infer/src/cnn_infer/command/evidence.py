"""``cnn-infer --evidence FOLDER``: for each picture, a drawing of what speaks for and against the answer.

A drawing shows the picture twice, in grey: on the left the evidence for the most probable class, on the right that for
the second most probable one. Orange speaks for the class, blue against it: colours that people with every common kind
of colour blindness tell apart. Both halves have the same scale; the strongest cell of the two has the full colour.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from cnn_infer import console
from cnn_infer.classifier import Classifier
from cnn_infer.errors import InputError, PictureError
from cnn_infer.explanation import Explanation, described, sight
from cnn_infer.optional_outputs import EVIDENCE, OPTIONAL_OUTPUTS
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import decode, read_header
from cnn_infer.pixels.read import read_file
from cnn_infer.pixels.resize import image_of, source_ratio
from cnn_infer.system.atomic import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.spec import Spec

FOR, AGAINST = (230, 97, 1), (5, 113, 176)
"""Orange and blue, RGB (https://colorbrewer2.org, for colour-blind readers)."""

STRENGTH = 0.75
"""The share of the colour in the strongest cell."""

MODEL = "Model"
"""Key of the text in a drawing with the SHA-256 of the model file."""

PICTURE = "Picture"
"""Key of the text in a drawing with the SHA-256 of the picture file."""

LONGEST_SIDE = 2000
"""Longest side of each half of a drawing in pixels; a larger picture is drawn smaller."""

LIGHTEST_BLACK, PALER = 56, np.float32(0.75)
"""Black and contrast of the grey picture: paler than the original, so that colours are seen in its shadows too."""

LEAST_CAPTION = 160
"""Width in pixels from which a half has a caption."""


def check_folder(folder: Path, paths: Iterable[object], pictures: Iterable[str], targets: Sequence[Path]) -> None:
    """Check the folder for the drawings, before any work.

    Args:
        folder: The folder.
        paths: The paths that were given.
        pictures: The paths of the pictures that were found under them.
        targets: The files for the other results.

    Raises:
        InputError: it cannot be a folder, is in a folder that is searched for pictures, or has one of the pictures.
    """
    place = os.path.realpath(folder)
    for target in targets:
        if _is_below(place, os.path.realpath(target)):
            raise InputError(
                f"{printable(folder)} is the file {printable(target)} for other results, or in it: choose another "
                "folder for --evidence"
            )
    for path in paths:
        if isinstance(path, str) and os.path.isdir(path) and _is_below(place, os.path.realpath(path)):
            raise InputError(
                f"{printable(folder)} is in {printable(path)}, which is searched for pictures: choose another folder "
                "for --evidence"
            )
    if os.path.lexists(place) and not os.path.isdir(place):
        raise InputError(f"not a folder: {printable(folder)}")
    last = ""
    for picture in pictures if os.path.isdir(place) else ():  # a new folder has none of them
        above = os.path.dirname(picture)
        if above != last and _is_below(os.path.realpath(above), place):
            raise InputError(
                f"{printable(picture)} is in {printable(folder)}, the folder for --evidence: choose another one"
            )
        last = above


def check_model(classifier: Classifier) -> None:
    """Check before any work that the model has the output ``evidence``, and that its specification describes it.

    Raises:
        InputError: the model was exported without ``--evidence``.
        ModelError: its specification is damaged.
    """
    if EVIDENCE not in classifier.model.available:
        option = OPTIONAL_OUTPUTS[EVIDENCE]
        raise InputError(f"the model has no evidence: export it with cnn-export {option}: {classifier.model.name}")
    described(classifier.spec, classifier.model.name)


def draw_all(classifier: Classifier, pictures: Iterable[str], folder: Path, *, max_pixels: int, max_bytes: int) -> str:
    """Draw the evidence for each picture into a file of its own.

    The files are called like the pictures, with ``.png`` added, in folders like those of the pictures. A picture that
    cannot be read has no drawing. Drawings that the same model made from the same bytes are kept, so an interrupted run
    can be repeated. Where the picture has changed since, the drawing is replaced.

    Returns:
        How many drawings there are, for people.

    Raises:
        InputError: a file exists that is no drawing by this model, or two pictures would have the same drawing.
        OSError: a file cannot be written.
    """
    drawn = kept = failed = 0
    shown: dict[Path, str] = {}
    with console.progress("drawing the evidence") as advance:
        for path in pictures:
            target = folder / _relative(path)
            if (other := shown.setdefault(target, os.path.abspath(path))) != os.path.abspath(path):
                raise InputError(
                    f"{printable(path)} and {printable(other)} would have the same drawing, {printable(target)}: "
                    "draw them into two folders"
                )
            try:
                data = read_file(path, max_bytes=max_bytes)
                digest = hashlib.sha256(data).hexdigest()
                if os.path.lexists(target):
                    if _drawn_from(classifier, target) == digest:
                        kept += 1
                    else:
                        target.unlink()  # it shows another picture, also if this one cannot be drawn
                if not os.path.lexists(target):
                    image = picture_to_draw(data, classifier.spec, max_pixels=max_pixels, max_bytes=max_bytes)
                    found = classifier.explain(data)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    texts = {MODEL: classifier.model.digest, PICTURE: digest}
                    write_bytes(target, _png(drawing(image, found, classifier.spec), found, texts))
                drawn += 1
            except PictureError:  # its row has the error
                failed += 1
            advance(1)
    earlier = f", {kept:,} of them by an earlier run" if kept else ""
    missing = f"; {console.quantity(failed, 'picture')} could not be read" if failed else ""
    seen = sight(classifier.spec, classifier.model.name)
    return f"evidence: {console.quantity(drawn, 'drawing')} in {printable(folder)}{earlier}{missing}; {seen}"


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


def _drawn_from(classifier: Classifier, file: Path) -> str | None:
    """Return the SHA-256 of the picture from which the model made a drawing; None for a drawing that lacks it.

    Raises:
        InputError: it is no drawing by this model.
    """
    texts: dict[str | tuple[int, int], object] = {}
    # what Pillow raises for files that are no PNG
    with suppress(OSError, SyntaxError, ValueError), Image.open(file, formats=["PNG"]) as image:
        texts = image.info
    if texts.get(MODEL) != classifier.model.digest:
        raise InputError(
            f"{printable(file)} exists and is no drawing by this model: choose another folder for --evidence"
        )
    picture = texts.get(PICTURE)
    return picture if isinstance(picture, str) else None


def _png(image: Image.Image, found: Explanation, texts: dict[str, str]) -> bytes:
    """The content of a PNG file, with some texts and the classes in it."""
    text = PngInfo()
    for key, value in texts.items():
        text.add_text(key, value)
    for key, part in (("Winner", found.winner), ("Runner-up", found.runner_up)):
        text.add_itxt(key, f"{part.name}: logit {part.logit:.4f} = bias {part.bias:.4f} + evidence of the cells")
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def _caption_height(width: int) -> int:
    return max(16, width // 20) if width >= LEAST_CAPTION else 0


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, shortened so that it fits into ``width`` pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text.rstrip('…')[:-1]}…"
    return text


def _relative(path: str) -> str:
    """The name of the drawing below the folder: as below the working folder, or else as below the root."""
    absolute = os.path.abspath(path)
    here = os.getcwd()
    inside = os.path.relpath(absolute, here) if _is_below(absolute, here) else os.path.splitdrive(absolute)[1]
    return inside.lstrip(os.sep) + ".png"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
