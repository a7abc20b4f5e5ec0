"""Conformance files: picture files inside the model file, with the pixels and probabilities that they must give.

Golden pictures have the model's size already. Conformance files are decoded, turned, converted and resized on the
machine that verifies, so they show a machine whose pixels differ. ``docs/contract.md`` describes the metadata.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_infer.errors import ModelError
from cnn_infer.pixels.convert import STAGES, stages_of
from cnn_infer.runtime import load_runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnn_infer.pixels.resize import DecodedPicture
    from cnn_infer.spec import Spec

FORMAT = 1
"""Version of the metadata. Any other version is refused."""

MAX_BYTES = 16 << 20
"""Largest size of the metadata in bytes, decompressed."""

GRID = 5
"""A sample has at most this many rows and columns of pixels."""

TOP = 5
"""Number of probabilities that are stored for each file."""

LIBRARIES = {
    "JPEG": ("simplejpeg", "pillow", "libjpeg-turbo"),
    "PNG": ("pillow", "zlib", "zlib-ng"),
    "WEBP": ("pillow", "libwebp"),
    "TIFF": ("pillow", "libtiff", "zlib"),
}
"""The libraries that decode a file of this format, as Pillow calls it; other formats are decoded by Pillow alone."""


@dataclass(frozen=True)
class Pixels:
    """What is recorded of a picture after a stage.

    Attributes:
        mode: The colour mode, by Pillow's name, for example ``RGB``, ``L``, ``P`` or ``CMYK``.
        size: Width and height in pixels.
        sha256: SHA-256, hexadecimal, of all samples: row by row, the channels of a pixel side by side, one byte a
            sample; modes ``I;16...`` have two bytes, the lower first.
        sample: The samples of at most 5 x 5 pixels, one byte each; of 16 bits the higher byte. Row ``i`` of ``n`` is
            the picture's row ``(2 * i + 1) * height // (2 * n)`` with ``n = min(5, height)``; columns likewise.
    """

    mode: str
    size: tuple[int, int]
    sha256: str
    sample: bytes


@dataclass(frozen=True)
class ConformanceFile:
    """A picture file with the results that it must give.

    Attributes:
        name: What kind of file it is, for people; for a test picture its number and format.
        format: Its format, by Pillow's name, for example ``JPEG``.
        own: Whether it is one of the user's test pictures; else it was drawn by code.
        data: The bytes of the file.
        stages: What is recorded after each of :data:`cnn_infer.pixels.convert.STAGES`.
        probabilities: The :data:`TOP` largest probabilities, 0 to 1, by the index of the class.
    """

    name: str
    format: str
    own: bool
    data: bytes
    stages: Mapping[str, Pixels]
    probabilities: Mapping[int, float]


def pixels_of(picture: DecodedPicture) -> Pixels:
    """Return what is recorded of a picture: a PIL image, or an array, uint8 (h, w) or (h, w, c)."""
    samples = samples_of(picture)
    of_array = "L" if samples.shape[2] == 1 else "RGB"
    mode = of_array if isinstance(picture, np.ndarray) else picture.mode
    height, width = samples.shape[:2]
    grid = samples[_places(height)][:, _places(width)]
    sample = (grid >> 8 if samples.itemsize > 1 else grid).astype(np.uint8).tobytes()
    return Pixels(mode, (width, height), hashlib.sha256(samples.tobytes()).hexdigest(), sample)


def samples_of(picture: DecodedPicture) -> NDArray[Any]:
    """Return the samples of a picture: uint8, or little-endian uint16 if it has 16 bits; (height, width, channels)."""
    samples = np.asarray(picture)
    kind = "<u2" if samples.dtype.itemsize > 1 else np.uint8
    return samples.astype(kind).reshape(*samples.shape[:2], -1)


def _places(side: int) -> NDArray[np.int64]:
    count = min(GRID, side)
    return (2 * np.arange(count) + 1) * side // (2 * count)


def recorded(data: bytes, spec: Spec) -> dict[str, Pixels]:
    """Return what is recorded of a picture file after each stage, on this machine.

    Raises:
        PictureError: the file cannot be decoded.
    """
    return {stage: pixels_of(picture) for stage, picture in stages_of(data, spec).items()}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decode, resize and run the model, without those that are missing."""
    import PIL
    import simplejpeg
    from PIL import features

    found = {
        "numpy": np.__version__,
        "onnxruntime": str(load_runtime().__version__),
        "pillow": PIL.__version__,
        "simplejpeg": str(simplejpeg.__version__),
    }
    parts = {
        "libjpeg-turbo": "libjpeg_turbo",
        "libwebp": "webp",
        "libtiff": "libtiff",
        "zlib": "zlib",
        "zlib-ng": "zlib_ng",
    }
    inside = {name: features.version(part) for name, part in parts.items()}
    return _own_version() | found | {name: version for name, version in inside.items() if version}


def _own_version() -> dict[str, str]:
    try:
        return {"cnn-infer": metadata.version("cnn-infer")}
    except metadata.PackageNotFoundError:  # a copy that pip did not install
        return {}


def pack(files: Iterable[ConformanceFile]) -> str:
    """Return the text that stands in the model's metadata under :data:`~cnn_infer.model.CONFORMANCE_KEY`.

    It is JSON, compressed by zlib and written in base64.
    """
    entries = [
        {
            "name": file.name,
            "format": file.format,
            "own": file.own,
            "data": base64.b64encode(file.data).decode(),
            "stages": _packed_stages(file.stages),
            "probabilities": {str(index): round(value, 7) for index, value in file.probabilities.items()},
        }
        for file in files
    ]
    text = json.dumps({"format": FORMAT, "versions": versions(), "files": entries}, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _packed_stages(stages: Mapping[str, Pixels]) -> dict[str, Any]:
    """A stage that leaves the picture as it was is left out."""
    packed: dict[str, Any] = {}
    before = None
    for name in STAGES:
        now = stages[name]
        if now != before:
            sample = base64.b64encode(now.sample).decode()
            packed[name] = {"mode": now.mode, "size": now.size, "sha256": now.sha256, "sample": sample}
        before = now
    return packed


def read(text: str) -> tuple[list[ConformanceFile], dict[str, str]]:
    """Parse the text that :func:`pack` returns.

    Returns:
        The files, and the versions of the libraries at export.

    Raises:
        ModelError: the text is damaged, or of another version.
    """
    try:
        document = json.loads(_decompressed(base64.b64decode(text, validate=True)))
        if document["format"] != FORMAT:
            raise ModelError(
                f"the model's conformance files have format {document['format']!r}; this version reads {FORMAT}: "
                "upgrade cnn-infer"
            )
        files = [
            ConformanceFile(
                name=str(entry["name"]),
                format=str(entry["format"]),
                own=bool(entry["own"]),
                data=base64.b64decode(entry["data"], validate=True),
                stages=_stages(entry["stages"]),
                probabilities={int(index): float(value) for index, value in entry["probabilities"].items()},
            )
            for entry in document["files"]
        ]
        return files, {str(name): str(version) for name, version in document["versions"].items()}
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"the model's conformance files are damaged: {error}") from error


def _decompressed(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, MAX_BYTES)
    if not unpacker.eof:
        raise ValueError("cut off, or too large")
    return text


def _stages(packed: Mapping[str, Any]) -> dict[str, Pixels]:
    found: dict[str, Pixels] = {}
    before = None
    for name in STAGES:
        if name in packed or before is None:
            entry = packed[name]
            width, height = entry["size"]
            sample = base64.b64decode(entry["sample"], validate=True)
            before = Pixels(str(entry["mode"]), (int(width), int(height)), str(entry["sha256"]), sample)
        found[name] = before
    return found
