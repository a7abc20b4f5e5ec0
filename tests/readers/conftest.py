"""The files that the tests of the reader compare, made by cnn_infer: what Python gives is what the reader must give."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from cnn_export import write_vectors
from cnn_export.conformance.draw import drawn_files
from cnn_infer import Classifier, Spec
from cnn_infer.model import CONFORMANCE_KEY
from cnn_infer.optional_outputs import select_outputs
from cnn_infer.pixels.convert import stages_of, to_pixels
from cnn_infer.pixels.resize import fitted
from cnn_infer.proof.conformance import ConformanceFile, pack, recorded
from cnn_infer.spec import Colour, Filter, Resize
from PIL import Image
from test_combinations import bmps, gifs, pngs, tiffs

ROOT = Path(__file__).parents[2]
READER = ROOT / "readers" / "js"
MODELS = ROOT / "tests" / "infer" / "models"
HANGS_AFTER = 120
SHAPES = 12
"""Random resizes for each filter and mode; benchmarks/javascript.py compares 500."""

MUTATED = 300
"""Mutated files; benchmarks/javascript.py decodes 10,000."""

PREDICTOR = 317
"""The tag of TIFF files that names what is stored in place of the samples; 2: differences."""

KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P"),
    "TIFF": ("L", "P", "RGB"),
    "WEBP": ("RGB", "RGBA"),
}
"""Modes of Pillow that are written, by format."""


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """The packages of the reader; installed once into its folder, which git ignores."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are missing: apt install nodejs npm")
    lock = READER / "package-lock.json"
    done = READER / "node_modules" / ".package-lock.json"
    if done.is_file() and done.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = ["npm", "ci", "--prefix", str(READER), "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=HANGS_AFTER)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip(f"the packages of the reader cannot be installed: {' '.join(command[:4])}")


def described(data: bytes, spec: Spec) -> dict[str, dict[str, Any]]:
    """What the reader must give after each stage."""
    stages = recorded(data, spec)
    return {
        name: {"mode": one.mode, "width": one.size[0], "height": one.size[1], "sha256": one.sha256}
        for name, one in stages.items()
    }


def with_conformance(source: Path, folder: Path) -> None:
    """Write a model, with conformance files, and its vectors."""
    classifier = Classifier(source, device="cpu")
    files = []
    for file in drawn_files(classifier.spec):
        row = classifier.probabilities(to_pixels(file.data, classifier.spec)[None])[0]
        form = str(Image.open(io.BytesIO(file.data)).format)
        probabilities = {index: float(value) for index, value in enumerate(row)}
        stages = recorded(file.data, classifier.spec)
        files.append(ConformanceFile(file.name, form, False, file.data, stages, probabilities))
    model = onnx.load(str(source))
    model.metadata_props.add(key=CONFORMANCE_KEY, value=pack(files))
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    write_vectors(folder / "vectors", folder)


def resizes(folder: Path) -> None:
    """Write pictures of random sizes, with what they become by each filter and in each mode."""
    chance = np.random.default_rng(0)
    cases, raw = [], b""
    modes = product(get_args(Filter), get_args(Resize), range(SHAPES))
    for filter_, resize, number in modes:
        height, width, new_height, new_width = (int(side) for side in chance.integers(1, 80, 4))
        colour: Colour = "grey" if number % 2 else "rgb"
        spec = Spec(("a", "b"), new_height, new_width, colour, resize, filter_, 0, 1.0)
        picture = chance.integers(0, 256, (height, width, spec.channels), np.uint8)
        pixels = fitted(picture[:, :, 0] if number % 2 else picture, spec)
        case = {"at": len(raw), "width": width, "height": height, "spec": asdict(spec)}
        cases.append(case | {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()})
        raw += picture.tobytes()
    (folder / "resizes.json").write_text(json.dumps(cases))
    (folder / "resizes.raw").write_bytes(raw)


def files_of_kinds() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of files that the reader decodes."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    for form, modes in KINDS.items():
        for mode in modes:
            yield f"{form} {mode}", saved(image.convert(mode), form)
    for sampling, progressive in product(("4:4:4", "4:2:2", "4:2:0", "4:1:1"), (False, True)):
        data = saved(image, "JPEG", subsampling=sampling, progressive=progressive, exif=exif)
        yield f"JPEG {sampling}, progressive {progressive}", data
    for mode in ("L", "CMYK"):
        yield f"JPEG {mode}", saved(image.convert(mode), "JPEG")
    for size in ((200, 130), (77, 300)):
        yield f"JPEG, {size[0]} x {size[1]}", saved(image.resize(size), "JPEG")
    some_tiffs = [one for one in tiffs() if one.name.startswith(("TIFF grey", "TIFF palette", "TIFF CMYK 8"))]
    for drawn in (*pngs(), *gifs(), *(one for one in some_tiffs if "extra 1" not in one.name)):
        yield drawn.name, drawn.data
    for form in ("tiff_lzw", "packbits", "tiff_deflate"):
        yield f"TIFF, {form}", saved(image.resize((200, 130)), "TIFF", compression=form, tiffinfo={PREDICTOR: 2})


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def kinds(folder: Path) -> None:
    """Write files of every kind with what they become, and files that only cnn_infer decodes."""
    spec = Spec(("a", "b"), 16, 16, "rgb", "crop", "bicubic", 0, 1.0)
    (folder / "kinds").mkdir()
    files, refused = [], []
    for number, (name, data) in enumerate(files_of_kinds()):
        (folder / "kinds" / str(number)).write_bytes(data)
        files.append({"name": name, "file": str(number), "stages": described(data, spec)})
    others = [one for one in tiffs() if one.name.startswith("TIFF RGB 8, extra 1, planar 1, none")]
    for one in [*others, *(one for one in bmps() if "16" in one.name)]:
        stages_of(one.data, spec)
        (folder / "kinds" / one.name).write_bytes(one.data)
        refused.append({"name": one.name, "file": one.name})
    assert refused
    document = {"spec": asdict(spec), "files": files, "refused": refused}
    (folder / "kinds.json").write_text(json.dumps(document))


def mutated(folder: Path) -> None:
    """Write files with one to eight bytes that are wrong, missing or too many."""
    chance = random.Random(0)
    seeds = [data for _, data in files_of_kinds()]
    found = []
    for _ in range(MUTATED):
        data = bytearray(chance.choice(seeds))
        for _ in range(1 << chance.randrange(4)):
            at = chance.randrange(len(data))
            data[at : at + chance.choice((0, 1, 1, 4))] = chance.randbytes(chance.choice((0, 1, 1, 4))) or b"\xff"
        found.append(base64.b64encode(data).decode())
    (folder / "mutated.json").write_text(json.dumps(found))


@pytest.fixture(scope="session")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    for name in ("rgb", "grey"):
        with_conformance(MODELS / f"{name}.onnx", folder / name)
    for name in ("foreign", "one_at_a_time", "outside", "fails_in_batches", "optional"):
        shutil.copy(MODELS / f"{name}.onnx", folder)
    selected, present = select_outputs((folder / "optional.onnx").read_bytes(), ())
    assert present
    (folder / "selected.onnx").write_bytes(selected)
    resizes(folder)
    kinds(folder)
    mutated(folder)
    return folder
