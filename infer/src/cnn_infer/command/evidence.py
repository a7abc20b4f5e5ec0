"""``cnn-infer --evidence FOLDER``: a folder with a drawing for each picture, which a later run can complete."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnn_infer import console
from cnn_infer.classifier import Classifier
from cnn_infer.command.drawing import drawing, picture_to_draw
from cnn_infer.errors import InputError, PictureError
from cnn_infer.explanation import Explanation, described, sight
from cnn_infer.optional_outputs import EVIDENCE, OPTIONAL_OUTPUTS
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.read import read_file
from cnn_infer.system.atomic import write_bytes

MODEL = "Model"
"""Key of the text in a drawing with the SHA-256 of the model file."""

PICTURE = "Picture"
"""Key of the text in a drawing with the SHA-256 of the picture file."""


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


def _relative(path: str) -> str:
    """The name of the drawing below the folder: as below the working folder, or else as below the root."""
    absolute = os.path.abspath(path)
    here = os.getcwd()
    inside = os.path.relpath(absolute, here) if _is_below(absolute, here) else os.path.splitdrive(absolute)[1]
    return inside.lstrip(os.sep) + ".png"


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
