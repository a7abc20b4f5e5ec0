"""Conformance files in an exported model: planted faults on the way from a file to probabilities are named by stage."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from cnn_export import ParityError, export, model_file
from cnn_export.conformance.draw import drawn_files
from cnn_export.conformance.pack import MAX_BYTES, own_files
from cnn_infer import Classifier, Spec, verify_all
from cnn_infer.proof.conformance import pack, read
from cnn_train import Run, open_source
from onnx import numpy_helper

Verify = Callable[..., tuple[int, str]]
STAGES = ("decode", "orientation", "colour", "resize", "graph", "probabilities")


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with an fp32 model, and an int8 model whose sums overflow on processors without VNNI."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("exported") / "run")
    export(folder, quantize=True, target="vnni", search_seconds=0, max_drop=100)
    return folder


@pytest.fixture
def verify(exported: Path) -> Verify:
    """Runs ``cnn-infer --verify`` in a process that first runs ``fault``; returns exit code and standard error."""

    def run(fault: str = "", model: Path = exported / "model.onnx") -> tuple[int, str]:
        arguments = ["cnn-infer", "--verify", "--model", str(model)]
        code = f"{fault}\nimport sys\nfrom cnn_infer.__main__ import main\nsys.argv = {arguments}\nmain()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert not done.stdout
        return done.returncode, done.stderr

    return run


def agreement(printed: str) -> dict[str, tuple[int, int]]:
    """For each stage, how many pictures agree and how many were compared."""
    found = re.findall(r"^  (\w+): (\d+) of (\d+) (?:files|golden pictures) agree", printed, re.M)
    return {stage: (int(agreed), int(compared)) for stage, agreed, compared in found}


def deviating(printed: str) -> str:
    """The lines on pictures that deviate."""
    return "\n".join(line for line in printed.splitlines() if line.startswith("    "))


def test_an_exported_model_verifies_every_stage(verify: Verify) -> None:
    code, printed = verify()
    assert code == 0, printed
    found = agreement(printed)
    assert tuple(found) == STAGES
    assert all(agreed == compared >= 3 for agreed, compared in found.values())
    assert re.search(r"^verified: 6 golden pictures and 2\d files agree on this machine", printed, re.M)


COLOURS = "import numpy as np\nfrom cnn_infer.pixels import convert\nright = convert._in_colour\n"

FAULTS = {
    "another resize filter": (
        "from cnn_infer.pixels import resize\nresize._FILTERS['bilinear'] = resize._FILTERS['hamming']",
        "resize",
        "JPEG, baseline, 4:2:0: sampled pixels differ by up to",
    ),
    "a resize in two steps": (
        "from PIL import Image\nright = Image.Image.resize\n"
        "Image.Image.resize = lambda *given: right(*given, reducing_gap=1.0)",
        "resize",
        "scaled by the decoder: sampled pixels differ by up to",
    ),
    "fast upsampling of colour": (
        "import functools, simplejpeg\n"
        "simplejpeg.decode_jpeg = functools.partial(simplejpeg.decode_jpeg, fastupsample=True)",
        "decode",
        "JPEG, baseline, 4:2:0: sampled pixels differ by up to",
    ),
    "a fast cosine transform": (
        "import functools, simplejpeg\n"
        "simplejpeg.decode_jpeg = functools.partial(simplejpeg.decode_jpeg, fastdct=True)",
        "decode",
        "test picture 0, JPEG: sampled pixels differ by up to",
    ),
    "JPEG files decoded at full size": (
        "from cnn_infer.pixels import convert\nconvert.jpeg_divisor = lambda *given: 1",
        "decode",
        "JPEG, 67 x 69, scaled by the decoder: 67 x 69 pixels, at export 34 x 35",
    ),
    "EXIF ignored": (
        "from cnn_infer.pixels import convert\nconvert.orientation_of = lambda image: 1",
        "orientation",
        "JPEG, baseline, 4:2:0, EXIF orientation 6: 29 x 23 pixels, at export 23 x 29",
    ),
    "a mirrored orientation taken as a turned one": (
        "from cnn_infer.pixels import orientation\norientation._TRANSPOSE[5] = orientation._TRANSPOSE[6]",
        "orientation",
        "JPEG, baseline, 4:4:4, EXIF orientation 5: sampled pixels differ by up to",
    ),
    "BGR from the decoder": (
        "from cnn_infer.pixels import jpeg\nright = jpeg.decode\njpeg.decode = lambda *given: right(*given)[..., ::-1]",
        "decode",
        "test picture 0, JPEG: sampled pixels differ by up to",
    ),
    "BGR after the conversion of colours": (
        COLOURS + "convert._in_colour = lambda *given: np.asarray(right(*given))[..., ::-1].copy()",
        "colour",
        "test picture 0, JPEG: sampled pixels differ by up to",
    ),
    "BGR into the model": (
        "from cnn_infer import classifier\nright = classifier.to_pixels\n"
        "classifier.to_pixels = lambda *given, **named: right(*given, **named)[..., ::-1].copy()",
        "resize",
        "test picture 0, JPEG: sampled pixels differ by up to",
    ),
    "transparency dropped": (
        COLOURS + "convert._in_colour = lambda found, colour: right(\n"
        "    found.convert('RGB') if getattr(found, 'mode', '') == 'RGBA' else found, colour)",
        "colour",
        "PNG, alpha: sampled pixels differ by up to",
    ),
    "Pillow without WebP": (
        "from PIL import WebPImagePlugin\nWebPImagePlugin.SUPPORTED = False",
        "decode",
        "WebP, lossy: cannot be decoded on this machine: WebP files need a Pillow that was built with WebP",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_by_its_stage(verify: Verify, name: str) -> None:
    fault, stage, line = FAULTS[name]
    code, printed = verify(fault)
    found = agreement(printed)
    assert code == 1, printed
    assert line in deviating(printed)
    place = STAGES.index(stage)
    differing, compared = found[stage][1] - found[stage][0], found[stage][1]
    assert differing
    for other, (agreed, all_compared) in found.items():
        if other != stage:
            assert agreed == all_compared, f"{other}: {printed}"
    assert all(found[other][1] == compared for other in STAGES[:place])
    assert printed.splitlines()[-1] == f"cnn-infer: {stage} differs for {differing} of {compared} files"
    versions = r"\((?:simplejpeg [\d.]+, )?pillow [\d.]+.*, as at export\)$"
    assert all(re.search(versions, row) for row in deviating(printed).splitlines() if " more: " not in row), printed


def test_the_version_of_a_library_that_changed_is_named(exported: Path, tmp_path: Path, verify: Verify) -> None:
    model = onnx.load(exported / "model.onnx")
    (entry,) = [entry for entry in model.metadata_props if entry.key == "cnn.conformance"]
    files, versions = read(entry.value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnn_infer.proof.conformance.versions", lambda: {**versions, "pillow": "9.5.0"})
        entry.value = pack(files)
    onnx.save(model, tmp_path / "model.onnx")
    _, printed = verify(FAULTS["another resize filter"][0], tmp_path / "model.onnx")
    assert f"(pillow {versions['pillow']}, at export 9.5.0)" in deviating(printed)


def test_the_decoder_of_pillow_gives_the_same_pixels(verify: Verify) -> None:
    code, printed = verify("from cnn_infer.pixels import jpeg\njpeg.read_header = lambda data: None")
    assert code == 0, printed


def test_one_changed_weight_is_found_in_the_graph(exported: Path, tmp_path: Path, verify: Verify) -> None:
    model = onnx.load(exported / "model.onnx")
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(weights).copy()
    values.flat[values.size // 2] += 0.1
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "changed.onnx")
    code, printed = verify(model=tmp_path / "changed.onnx")
    assert code == 1
    assert "golden pictures differ on this machine" in printed.splitlines()[-1]
    found = agreement(printed)
    assert all(found[stage][0] == found[stage][1] for stage in STAGES[:4])
    assert found["graph"][0] < found["graph"][1]
    assert found["probabilities"][0] < found["probabilities"][1]


def test_saturating_sums_are_found(exported: Path, verify: Verify) -> None:
    """The int8 model is run as a processor without VNNI runs it: sums of two products saturate to 16 bits."""
    model = exported / "model.int8.onnx"
    saturating = (
        "import onnx\nfrom cnn_export.int8.reference import Reference\nfrom cnn_infer import classifier\n"
        f"processor = Reference(onnx.load({str(model)!r}), saturates=True)\n"
        "classifier.Classifier.probabilities = lambda self, batch: processor.run(batch.copy()).probabilities"
    )
    code, printed = verify(saturating, model)
    assert code == 1
    found = agreement(printed)
    assert all(found[stage][0] == found[stage][1] for stage in STAGES[:4])
    assert found["probabilities"][0] < found["probabilities"][1] / 2


def test_the_users_own_files_are_stored_as_they_are(exported: Path, photos: Path) -> None:
    spec = Classifier(exported / "model.onnx").spec
    files, _ = read(Classifier(exported / "model.onnx").model.metadata["cnn.conformance"])
    contents = {path.read_bytes(): path.parent.name for path in photos.rglob("*.jpg")}
    own = [file for file in files if file.own]
    assert {contents[file.data] for file in own[:3]} == set(spec.classes)
    assert sum(len(file.data) for file in own) <= MAX_BYTES == 65536
    of_one_class = [len(file.data) for file in own if contents[file.data] == "blue"]
    assert of_one_class == sorted(of_one_class)


def test_golden_zero_stores_no_file_of_the_user(run: Run, verify: Verify) -> None:
    export(run, golden_pictures=0)
    model = run.path / "model.onnx"
    files, _ = read(Classifier(model).model.metadata["cnn.conformance"])
    assert files
    assert not any(file.own for file in files)
    code, printed = verify(model=model)
    assert code == 0
    assert "graph: covered by probabilities, because the model has no golden pictures" in printed
    assert re.search(r"^verified: \d+ files agree on this machine", printed, re.M)


def test_files_that_are_too_large_or_unreadable_are_left_out(
    photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "cnn_export")
    source = open_source(str(photos))
    spec = Spec(source.classes, 16, 16, "rgb", "crop", "bilinear", 0, 1.0)
    smallest = min(len(Path(path).read_bytes()) for path in source.splits["test"].pictures)
    monkeypatch.setattr("cnn_export.conformance.pack.MAX_BYTES", 2 * smallest - 1)
    assert len(own_files(source, spec, 8)) == 1
    assert "carries 1 test picture as a file with EXIF data, 1 KiB, for --verify: --golden 0 leaves" in caplog.text
    with monkeypatch.context() as damaged:
        damaged.setattr("cnn_export.conformance.pack.read_file", lambda *given, **named: b"no picture")
        assert own_files(source, spec, 8) == []
    monkeypatch.setattr("cnn_export.conformance.pack.MAX_BYTES", smallest - 1)
    assert own_files(source, spec, 8) == []
    assert "the model has no test pictures as files for --verify" in caplog.text
    assert own_files(open_source("digits"), spec, 8) == []  # arrays, not files


@pytest.mark.parametrize(("side", "colour", "most"), [(8, "grey", 12), (32, "rgb", 12), (224, "rgb", 22)])
def test_the_drawn_files_are_small_and_the_same_each_time(side: int, colour: str, most: int) -> None:
    spec = Spec(("a", "b"), side, side, colour, "squash", "bilinear", 0, 1.0)  # type: ignore[arg-type]
    files = drawn_files(spec)
    assert files == drawn_files(spec)
    assert len({file.name for file in files}) == len(files) >= 19
    assert sum(len(file.data) for file in files) <= most << 10


def test_models_for_large_pictures_have_no_file_that_is_larger_still() -> None:
    spec = Spec(("a", "b"), 4096, 4096, "rgb", "squash", "bilinear", 0, 1.0)
    assert not any("scaled by the decoder" in file.name for file in drawn_files(spec))


def test_a_file_that_does_not_replay_its_own_pictures_is_not_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    right = model_file.conformance_files

    def spoilt(*given: object) -> str:
        files, _ = read(right(*given))  # type: ignore[arg-type]
        files[-1].stages["resize"] = files[0].stages["resize"]  # type: ignore[index]
        return pack(files)

    monkeypatch.setattr(model_file, "conformance_files", spoilt)
    with pytest.raises(ParityError, match="the file does not replay its own pictures: resize of TIFF, orientation 4"):
        export(run)
    assert not (run.path / "model.onnx").exists()
    assert json.loads((run.path / "export.failed.json").read_text())["reason"]


def test_with_the_arithmetic_of_another_processor_only_pixels_are_replayed(run: Run) -> None:
    """The probabilities are those of that processor; this machine is not asked for them."""
    export(run)
    found = Classifier(run.path / "model.onnx", device="cpu")
    probabilities = np.full((1, 3), 1 / 3, np.float32)
    pictures = model_file.GoldenPictures(np.zeros((1, 16, 16, 3), np.uint8), np.array([0]), 1)
    proto = onnx.load(run.path / "model.onnx")
    data = model_file.model_file(
        run.path, proto, found.spec, pictures, probabilities, lambda batch: np.full((len(batch), 3), 1 / 3, np.float32)
    )
    stages = {result.stage: result for result in verify_all(Classifier(data, device="cpu")).stages}
    assert stages["resize"].agreed == stages["resize"].compared
    assert stages["probabilities"].agreed < stages["probabilities"].compared
    with pytest.raises(ParityError, match="the file does not replay its own pictures: graph of golden picture 0"):
        model_file.model_file(run.path, proto, found.spec, pictures, probabilities)
