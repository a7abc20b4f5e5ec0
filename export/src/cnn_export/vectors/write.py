"""The vectors of an exported run: picture files, their pixels after each stage, and the outputs of the model.

``docs/contract.md`` describes the files, and ``cnn_infer/schema/vectors.schema.json`` the index.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier, console
from cnn_infer.errors import ModelError
from cnn_infer.model import CONFORMANCE_KEY
from cnn_infer.paths.naming import printable
from cnn_infer.pixels.convert import stages_of, to_pixels
from cnn_infer.pixels.open import load, open_file
from cnn_infer.pixels.orientation import orientation_of
from cnn_infer.proof import golden
from cnn_infer.proof.conformance import ConformanceFile, read, versions
from cnn_infer.proof.verification import verify_all
from cnn_infer.run_files import FP32_MODEL, INT8_MODEL
from cnn_infer.spec import FORMAT as SPEC_FORMAT, Spec
from numpy.typing import NDArray

from cnn_export.errors import ExportError, ParityError
from cnn_export.exported_run import exported_folder
from cnn_export.new_folder import check_new_folder, new_folder
from cnn_export.parity import run_model
from cnn_export.vectors.resizing import divided, resized
from cnn_export.vectors.store import Store

FORMAT = 1
"""Version of the index."""

INDEX = "index.json"

TOP = 20
"""Number of outputs that are listed for each picture: all of a model with up to 20 classes."""

_ENDINGS = {"JPEG": "jpg", "TIFF": "tif"}


@dataclass(frozen=True)
class Vectors:
    """What was written.

    Attributes:
        folder: The folder.
        models: Names of the model files whose outputs the vectors have.
        pictures: Number of picture files.
        golden: Number of golden pictures.
        resizes: Number of vectors of the resize alone.
        bytes: Size of all files.
    """

    folder: Path
    models: tuple[str, ...]
    pictures: int
    golden: int
    resizes: int
    bytes: int


def write_vectors(out: str | os.PathLike[str], run: str | os.PathLike[str] | None = None) -> Vectors:
    """Write the conformance vectors of an exported run into a new folder.

    The picture files are those that the model carries. Nothing depends on the date, so the same model gives the same
    bytes with the same versions of the libraries.

    Args:
        out: The folder; it must be empty or not exist.
        run: A folder with ``model.onnx``, and ``model.int8.onnx`` if there is one; None for the newest run under
            ``runs/``.

    Raises:
        ExportError: nothing was exported in ``run``, its models are damaged or older, or ``out`` is not empty.
        ParityError: this machine does not compute what the models carry.
        DeviceError: ONNX Runtime is not installed.
        OSError: the disk is full, or writing is not permitted.
    """
    check_new_folder(out)
    models = _models(run)
    first = models[FP32_MODEL]
    try:
        files, _ = read(first.model.metadata[CONFORMANCE_KEY])
        pictures = golden.pictures_of(first)
    except ModelError as error:
        raise ExportError(f"{error}: export again") from error
    with new_folder(out) as folder, console.progress("vectors", len(files)) as advance:
        store = Store(folder)
        entries = []
        for number, file in enumerate(files):
            entries.append(_of_file(number, file, models, store))
            advance(1)
        spec = first.spec
        resizes = [
            {
                "source": store.record(case.picture),
                "resize": case.spec.resize,
                "filter": case.spec.filter,
                "target": store.record(case.pixels),
            }
            for case in resized(spec)
        ]
        divisors = [
            {
                "width": case.width,
                "height": case.height,
                "resize": case.spec.resize,
                "target": {"width": case.spec.width, "height": case.spec.height},
                "divisor": case.divisor,
            }
            for case in divided(spec)
        ]
        document = {
            "format": FORMAT,
            "spec": {"format": SPEC_FORMAT, **_without_details(spec)},
            "versions": versions(),
            "models": [_of_model(name, one) for name, one in models.items()],
            "files": entries,
            "golden": [_of_golden(number, png, models, store) for number, png in enumerate(pictures)],
            "resizes": resizes,
            "jpeg_divisors": divisors,
        }
        store.write(
            INDEX, (json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n").encode()
        )
    return Vectors(
        folder=Path(out),
        models=tuple(models),
        pictures=len(files),
        golden=len(pictures),
        resizes=len(resizes),
        bytes=store.written,
    )


def vectors_line(found: Vectors) -> str:
    """Return the line about vectors that were written."""
    parts = (
        console.quantity(found.pictures, "picture file"),
        console.quantity(found.golden, "golden picture"),
        console.quantity(found.resizes, "resize"),
    )
    return f"vectors        {printable(found.folder)}: {', '.join(parts)}, {found.bytes / 1024:,.0f} KiB"


def _models(run: str | os.PathLike[str] | None) -> dict[str, Classifier]:
    """Open the fp32 model of a run, and the int8 model if there is one; by file name.

    Both must give on this machine what they gave at export.
    """
    folder = exported_folder(run)
    found = {}
    for name in (FP32_MODEL, INT8_MODEL):
        path = folder / name
        if not path.exists():
            continue
        try:
            one = Classifier(path, device="cpu")
            if CONFORMANCE_KEY not in one.model.metadata:
                raise ExportError(
                    f"{printable(path)} has no conformance files, it is of an older version: export again"
                )
            deviations = verify_all(one).deviations
        except ModelError as error:
            raise ExportError(f"{error}: export again") from error
        if deviations:
            raise ParityError(
                f"{printable(path)} does not give on this machine what it gave at export: {deviations[0].stage} of "
                f"{deviations[0].picture}: run cnn-infer --verify"
            )
        found[name] = one
    return found


def _of_file(number: int, file: ConformanceFile, models: Mapping[str, Classifier], store: Store) -> dict[str, Any]:
    spec = models[FP32_MODEL].spec
    ending = _ENDINGS.get(file.format, file.format.lower())
    stages = stages_of(file.data, spec)
    return {
        "name": file.name,
        "format": file.format,
        "own": file.own,
        "file": store.write(f"files/{number:02}.{ending}", file.data),
        "bytes": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "orientation": _orientation(file.data),
        "stages": {stage: store.record(picture, limited=True) for stage, picture in stages.items()},
        "outputs": _outputs(models, to_pixels(file.data, spec)),
    }


def _orientation(data: bytes) -> int:
    """Return the EXIF orientation that has to be applied to the decoded picture, 1 to 8."""
    image = open_file(data)
    load(image)  # turns TIFF files upright
    found = orientation_of(image)
    return found if 1 <= found <= 8 else 1


def _of_golden(number: int, png: bytes, models: Mapping[str, Classifier], store: Store) -> dict[str, Any]:
    pixels = to_pixels(png, models[FP32_MODEL].spec)
    return {
        "file": store.write(f"golden/{number}.png", png),
        "bytes": len(png),
        "sha256": hashlib.sha256(png).hexdigest(),
        "pixels": store.record(pixels, limited=True),
        "outputs": _outputs(models, pixels),
    }


def _of_model(name: str, one: Classifier) -> dict[str, Any]:
    return {
        "file": name,
        "sha256": one.model.digest,
        "precision": one.spec.details.get("precision", "fp32"),
        "tolerance": golden.tolerance_of(one.spec),
    }


def _outputs(models: Mapping[str, Classifier], pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the largest outputs of each model for one picture, by the name of the file, the largest first."""
    found = {}
    for name, one in models.items():
        outputs = run_model(one.model, pixels[None], batch_size=1)
        logits, probabilities = outputs.logits[0], outputs.probabilities[0]
        classes = np.argsort(-logits, kind="stable")[:TOP]
        found[name] = {
            "classes": classes.tolist(),
            "logits": _shortest(logits[classes]),
            "probabilities": _shortest(probabilities[classes]),
        }
    return found


def _shortest(values: NDArray[np.float32]) -> list[float]:
    """The decimal numbers with the fewest digits that are these float32 values."""
    return [float(str(value)) for value in values]


def _without_details(spec: Spec) -> dict[str, Any]:
    document = json.loads(spec.to_json())
    return {key: value for key, value in document.items() if key not in ("format", "details")}
