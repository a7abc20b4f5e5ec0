"""The test split as PNG files, to try an exported model on."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from pathlib import Path

from cnn_infer import console
from PIL import Image

from cnn_train.data.dataset import Dataset, Split
from cnn_train.data.output_guard import check_outside
from cnn_train.errors import RunError

log = logging.getLogger(__name__)


def check_folder(dataset: Dataset, folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder if writing the test pictures there would remove other files.

    Args:
        dataset: The data set of the test pictures.
        folder: The folder to write. It may not exist yet.
        overwrite: Whether earlier test pictures may be replaced.

    Raises:
        DataError: the folder is inside the data set or contains it.
        RunError: the folder is not empty and ``overwrite`` is off, or it contains other files than test pictures.
    """
    check_outside(dataset.source, folder, "--test-pictures", replaced=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise RunError(
            f"{folder} is not empty: --test-pictures writes the test split there: pass --overwrite to replace it, or "
            "name another folder for --test-pictures"
        )
    if folder.exists():
        files = (path for path in folder.rglob("*") if not path.is_dir())
        foreign = next((path for path in files if not re.fullmatch(r"\d{6,}\.png", path.name)), None)
        if foreign is not None:
            raise RunError(
                f"{foreign} is not a test picture and would be lost: name another folder for --test-pictures"
            )


def write_test_pictures(dataset: Dataset, folder: Path, *, overwrite: bool = False) -> None:
    """Write the test split as ``folder/CLASS/NUMBER.png``: exactly the pixels that the network is tested on.

    Args:
        dataset: The data set of the test pictures.
        folder: The folder to write. It is complete or absent, even after an interruption.
        overwrite: Replace earlier test pictures.

    Raises:
        DataError: as for :func:`check_folder`.
        RunError: as for :func:`check_folder`.
    """
    check_folder(dataset, folder, overwrite=overwrite)
    place = folder.resolve()  # what a link leads to is replaced, the link stays
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".partial"))
    try:
        _write_pngs(dataset.test, dataset.source.classes, temporary)
        if place.exists():
            shutil.rmtree(place)
        temporary.chmod(0o755)
        temporary.rename(place)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    log.info(f"wrote {console.quantity(len(dataset.test.labels), 'test picture')} to {folder}/")


def _write_pngs(split: Split, classes: tuple[str, ...], folder: Path) -> None:
    for name in classes:
        (folder / name).mkdir()
    with console.progress("writing test pictures", len(split.labels)) as advance:
        for number, (picture, label) in enumerate(zip(split.images, split.labels, strict=True)):
            Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).save(
                folder / classes[label] / f"{number:06}.png", "PNG"
            )
            advance(1)
