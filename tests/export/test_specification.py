"""The documents that docs/contract.md specifies: their JSON schemas, and the vectors, which a second reader replays."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cnn_export import ExportError, ParityError, export, write_vectors
from cnn_export.vectors import store
from jsonschema import Draft202012Validator
from PIL import Image
from referencing import Registry, Resource

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
SCHEMAS = {
    name: json.loads((files("cnn_infer") / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    for name in ("spec", "golden", "conformance", "vectors")
}


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an fp32 and an int8 model."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("exported") / "run")
    export(folder, quantize=True, search_seconds=0, max_drop=100)
    return folder


@pytest.fixture(scope="module")
def vectors(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "new" / "folder"
    found = write_vectors(folder, exported)
    assert found.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found.bytes < 500_000
    return folder


@pytest.fixture(scope="module")
def index(vectors: Path) -> dict[str, Any]:
    return json.loads((vectors / "index.json").read_text(encoding="utf-8"))


def problems(name: str, document: object) -> list[str]:
    """What a schema says against a document."""
    known = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values())
    validator = Draft202012Validator(SCHEMAS[name], registry=known)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def documents(model: Path) -> dict[str, Any]:
    """The JSON documents in the metadata of a model, read as the page says."""
    found = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    return {
        "spec": json.loads(found["cnn.spec"]),
        "golden": json.loads(found["cnn.golden"]),
        "conformance": json.loads(zlib.decompress(base64.b64decode(found["cnn.conformance"]))),
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_schemas_and_the_page_names_them(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert f"`{name}.schema.json`" in PAGE


@pytest.mark.parametrize("precision", ["model.onnx", "model.int8.onnx"])
def test_exported_models_are_valid(exported: Path, precision: str) -> None:
    found = documents(exported / precision)
    assert {name: problems(name, document) for name, document in found.items()} == {name: [] for name in found}
    assert found["golden"]
    assert any(file["own"] for file in found["conformance"]["files"])


FAULTS: dict[str, tuple[str, tuple[str | int, ...], object]] = {
    "a later format": ("spec", ("format",), 2),
    "one class": ("spec", ("classes",), ["cat"]),
    "a class twice": ("spec", ("classes",), ["cat", "cat"]),
    "a class without a name": ("spec", ("classes", 0), ""),
    "no pixels": ("spec", ("height",), 0),
    "half a pixel": ("spec", ("width",), 16.5),
    "an unknown colour": ("spec", ("colour",), "bgr"),
    "an unknown mode": ("spec", ("resize",), "stretch"),
    "an unknown filter": ("spec", ("filter",), "nearest"),
    "a scale of zero": ("spec", ("scale",), 0),
    "a zero point that is no pixel": ("spec", ("zero_point",), 256),
    "a temperature below zero": ("spec", ("temperature",), -1),
    "profiles that are applied": ("spec", ("profiles",), "srgb"),
    "an unknown precision": ("spec", ("details", "precision"), "int4"),
    "details that are a text": ("spec", ("details",), "{}"),
    "a golden picture that is not base64": ("golden", (0, "png"), "no base64!"),
    "a probability above 1": ("golden", (0, "probabilities", 0), 1.5),
    "conformance files of a later format": ("conformance", ("format",), 2),
    "a digest that is cut": ("conformance", ("files", 0, "stages", "decode", "sha256"), "abc"),
    "a class that is no number": ("conformance", ("files", 0, "probabilities"), {"cat": 1.0, "dog": 0.0}),
    "an unknown stage": ("conformance", ("files", 0, "stages", "sharpen"), None),
    "a file outside of the folder": ("vectors", ("files", 0, "file"), "../a.png"),
    "raw pixels elsewhere": ("vectors", ("resizes", 0, "target", "raw"), "/etc/passwd"),
    "an orientation of 9": ("vectors", ("files", 0, "orientation"), 9),
    "an unknown key": ("vectors", ("created",), "today"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_not_valid(name: str, exported: Path, index: dict[str, Any]) -> None:
    which, path, value = FAULTS[name]
    document = copy.deepcopy({**documents(exported / "model.int8.onnx"), "vectors": index}[which])
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert problems(which, document)


@pytest.mark.parametrize(
    ("which", "key"), [(name, key) for name in ("spec", "conformance") for key in SCHEMAS[name]["required"]]
)
def test_a_missing_key_is_not_valid(which: str, key: str, exported: Path) -> None:
    document = documents(exported / "model.onnx")[which]
    del document[key]
    assert problems(which, document)


def test_the_index_is_valid_and_complete(vectors: Path, index: dict[str, Any], exported: Path) -> None:
    assert problems("vectors", index) == []
    assert [model["file"] for model in index["models"]] == ["model.onnx", "model.int8.onnx"]
    for model in index["models"]:
        assert model["sha256"] == hashlib.sha256((exported / model["file"]).read_bytes()).hexdigest()
    carried = [file["data"] for file in documents(exported / "model.onnx")["conformance"]["files"]]
    assert [base64.b64encode((vectors / file["file"]).read_bytes()).decode() for file in index["files"]] == carried
    assert {file["orientation"] for file in index["files"]} >= {1, 2, 3, 5, 6, 7, 8}
    assert len({(case["resize"], case["filter"]) for case in index["resizes"]}) == 15
    assert {case["divisor"] for case in index["jpeg_divisors"]} == {1, 2, 4, 8}
    named = {"index.json"} | set(re.findall(r'"((?:files|golden|raw)/[^"]+)"', (vectors / "index.json").read_text()))
    assert named == {path.relative_to(vectors).as_posix() for path in vectors.rglob("*") if path.is_file()}


# A second reader, from docs/contract.md alone: it imports nothing of the three packages.


class Reader:
    """Computes each stage from the record of the stage before, with the page's program for the resize."""

    def __init__(self, folder: Path, change: tuple[str, str] = ("", "")) -> None:
        self.folder = folder
        names: dict[str, Any] = {}
        (code,) = re.findall(r"^```python\n(import math.*?)^```$", PAGE, re.M | re.S)
        assert change[0] in code
        exec(code.replace(*change), names)
        self.fitted = names["fitted"]

    def raw(self, record: dict[str, Any]) -> np.ndarray:
        data = (self.folder / record["raw"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["sha256"]
        samples = np.frombuffer(data, np.uint8 if record["bits"] == 8 else np.dtype("<u2"))
        return samples.reshape(record["height"], record["width"], record["channels"]).astype(np.int64)

    def upright(self, s: np.ndarray, orientation: int) -> np.ndarray:
        if orientation >= 5:
            s = s.transpose(1, 0, 2)
        across, down = {1: (1, 1), 2: (-1, 1), 3: (-1, -1), 4: (1, -1), 5: (1, 1), 6: (-1, 1), 7: (-1, -1), 8: (1, -1)}[
            orientation
        ]
        return s[::down, ::across]

    def coloured(self, s: np.ndarray, mode: str, colour: str) -> np.ndarray | None:
        """The picture in the model's colours; None for a palette, which stands in the file."""
        if mode.startswith("I;16"):
            s = (255 * s + 32767) // 65535
        elif mode == "CMYK":
            k = 255 - s[:, :, 3:]
            t = s[:, :, :3] * k + 128
            s = k - ((t + (t >> 8)) >> 8)
        elif mode in ("LA", "RGBA"):
            a = s[:, :, -1:]
            t = s[:, :, :-1] * a + 255 * (255 - a) + 128
            s = (t + (t >> 8)) >> 8
        elif mode not in ("L", "RGB"):
            return None
        if colour == "grey" and s.shape[2] == 3:
            s = (s @ np.array([[19595], [38470], [7471]]) + 32768) >> 16
        return np.broadcast_to(s, (*s.shape[:2], 1 if colour == "grey" else 3))

    def resized(self, s: np.ndarray, width: int, height: int, mode: str, name: str) -> np.ndarray:
        planes = [self.fitted(s[:, :, n].tolist(), width, height, mode, name) for n in range(s.shape[2])]
        return np.stack(planes, axis=2)


def deviating(reader: Reader, index: dict[str, Any]) -> set[str]:
    """The stages in which a reader gives other pixels than the vectors."""
    spec, found = index["spec"], set()
    for file in index["files"]:
        stages = file["stages"]
        upright = reader.upright(reader.raw(stages["decode"]), file["orientation"])
        if not np.array_equal(upright, reader.raw(stages["orientation"])):
            found.add("orientation")
        colour = reader.raw(stages["colour"])
        mine = reader.coloured(reader.raw(stages["orientation"]), stages["orientation"]["mode"], spec["colour"])
        if mine is not None and not np.array_equal(mine, colour):
            found.add("colour")
        pixels = reader.resized(colour, spec["width"], spec["height"], spec["resize"], spec["filter"])
        if not np.array_equal(pixels, reader.raw(stages["resize"])):
            found.add("resize")
    for case in index["resizes"]:
        target = case["target"]
        pixels = reader.resized(
            reader.raw(case["source"]), target["width"], target["height"], case["resize"], case["filter"]
        )
        if not np.array_equal(pixels, reader.raw(target)):
            found.add(f"{case['resize']} {case['filter']}")
    return found


def test_a_second_reader_gives_the_pixels_of_the_vectors(vectors: Path, index: dict[str, Any]) -> None:
    assert deviating(Reader(vectors), index) == set()
    modes = {file["stages"]["decode"]["mode"] for file in index["files"]}
    assert {"L", "RGB", "RGBA", "CMYK", "P", "I;16"} <= modes


def test_lossless_files_decode_to_the_vectors(vectors: Path, index: dict[str, Any]) -> None:
    plain = [file for file in index["files"] if file["format"] == "PNG" and file["stages"]["decode"]["mode"] == "RGB"]
    assert len(plain) >= 2
    for file in plain:
        pixels = np.asarray(Image.open(vectors / file["file"]))
        np.testing.assert_array_equal(pixels, Reader(vectors).raw(file["stages"]["decode"]))
    for golden in index["golden"]:
        pixels = np.asarray(Image.open(vectors / golden["file"]))
        np.testing.assert_array_equal(pixels, Reader(vectors).raw(golden["pixels"]))


WRONG: dict[str, Callable[[Path], tuple[Reader, set[str]]]] = {
    "another filter": lambda folder: (
        Reader(folder, ("FILTERS = {", "hamming = bilinear\nFILTERS = {")),
        {"squash hamming", "crop hamming", "pad hamming"},
    ),
    "samples that are cut": lambda folder: (Reader(folder, ("(2**21 + sum", "(sum")), {"resize"}),
    "no EXIF": lambda folder: (changed(folder, upright=lambda s, orientation: s), {"orientation"}),
    "BGR": lambda folder: (
        changed(folder, coloured=lambda s, mode, colour: s[:, :, ::-1] if mode == "RGB" else None),
        {"colour"},
    ),
}


def changed(folder: Path, **methods: Callable[..., Any]) -> Reader:
    reader = Reader(folder)
    vars(reader).update(methods)
    return reader


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_reader_is_found_by_its_stage(name: str, vectors: Path, index: dict[str, Any]) -> None:
    reader, stages = WRONG[name](vectors)
    found = deviating(reader, index)
    assert found >= stages
    if not any("resize" in stage for stage in stages):
        assert found == stages


def test_a_plain_session_gives_the_outputs_of_the_vectors(vectors: Path, index: dict[str, Any], exported: Path) -> None:
    reader = Reader(vectors)
    for model in index["models"]:
        session = onnxruntime.InferenceSession(
            (exported / model["file"]).read_bytes(), providers=["CPUExecutionProvider"]
        )
        for entry in [*index["files"], *index["golden"]]:
            record = entry["stages"]["resize"] if "stages" in entry else entry["pixels"]
            outputs = entry["outputs"][model["file"]]
            logits, probabilities = session.run(None, {"image": reader.raw(record)[None].astype(np.uint8)})
            assert outputs["classes"][0] == probabilities[0].argmax()
            assert sorted(outputs["classes"]) == [0, 1, 2]
            np.testing.assert_allclose(logits[0, outputs["classes"]], outputs["logits"], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(
                probabilities[0, outputs["classes"]], outputs["probabilities"], atol=model["tolerance"]
            )


def test_the_same_model_gives_the_same_bytes(vectors: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder may exist
    write_vectors(tmp_path / "again", exported)
    for path in vectors.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(vectors)).read_bytes() == path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_pixels_beyond_the_limit_have_a_digest_only(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: dict[str, Any]
) -> None:
    monkeypatch.setattr(store, "MAX_PIXEL_BYTES", 10_000)
    write_vectors(tmp_path / "small", exported)
    found = json.loads((tmp_path / "small" / "index.json").read_text())
    assert problems("vectors", found) == []
    records = [record for file in found["files"] for record in file["stages"].values()]
    assert {record["raw"] is None for record in records} == {True, False}
    assert sum(path.stat().st_size for path in {tmp_path / "small" / r["raw"] for r in records if r["raw"]}) <= 10_000
    digests = [[record["sha256"] for record in file["stages"].values()] for file in index["files"]]
    assert [[record["sha256"] for record in file["stages"].values()] for file in found["files"]] == digests
    assert all(case["target"]["raw"] for case in found["resizes"])


def test_the_command_writes_vectors_and_refuses_what_has_no_effect(exported: Path, tmp_path: Path) -> None:
    def run(*arguments: str | Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "cnn_export", *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    code, printed = run(exported, "--vectors", "out")
    assert code == 0, printed
    assert re.search(r"^vectors +out: \d+ picture files, \d golden pictures, \d+ resizes, \d+ KiB$", printed, re.M)
    assert run(exported, "--vectors", "out") == (2, "cnn-export: the folder is not empty: out: name a new one\n")
    assert run(exported, "--vectors", "new", "--golden", "0", "--data", "x")[0] == 2
    assert not (tmp_path / "new").exists()


def test_a_run_that_cannot_have_vectors_is_refused(
    exported: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match=r"has no model\.onnx: export it first"):
        write_vectors(tmp_path / "out", trained)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="it is a file, not a folder"):
        write_vectors(tmp_path / "file", exported)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="no finished run under runs/: run cnn-train first"):
        write_vectors(tmp_path / "out")
    other = shutil.copytree(exported, tmp_path / "other")
    model = onnx.load(other / "model.onnx")
    kept = [entry for entry in model.metadata_props if entry.key != "cnn.conformance"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, other / "model.onnx")
    with pytest.raises(ExportError, match="no conformance files, it is of an older version: export again"):
        write_vectors(tmp_path / "out", other)
    (other / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"not an ONNX model.*: export again"):
        write_vectors(tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_another_machine_whose_pixels_differ_writes_no_vectors(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn_infer.pixels.convert.orientation_of", lambda image: 1)
    with pytest.raises(ParityError, match=r"gave at export: orientation of .*: run cnn-infer --verify"):
        write_vectors(tmp_path / "out", exported)


def test_nothing_is_left_of_vectors_that_could_not_be_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cnn_export.vectors.store.Store.write", full)
    with pytest.raises(OSError, match="No space"):
        write_vectors(tmp_path / "out", exported)
    assert list(tmp_path.iterdir()) == []
