"""verify_all: files in the model are replayed stage by stage; the first stage that differs is named, with how far."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, ModelError, verify_all
from cnn_infer.pixels.convert import STAGES, stages_of, to_pixels
from cnn_infer.proof.conformance import ConformanceFile, Pixels, pack, pixels_of, read, recorded
from cnn_infer.proof.golden import tolerance_of
from PIL import Image

Edit = Callable[[str, str, str], bytes]


def png(mode: str = "RGB", size: tuple[int, int] = (12, 10), **options: object) -> bytes:
    down, across = np.mgrid[0 : size[1], 0 : size[0]]
    pixels = np.stack([20 * across, 20 * down, 200 - 10 * across], axis=2).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


def entry(model: Classifier, data: bytes, name: str = "PNG") -> ConformanceFile:
    """A conformance file with what it gives on this machine."""
    row = model.probabilities(model.pixels(data)[None])[0]
    probabilities = {index: float(value) for index, value in enumerate(row)}
    return ConformanceFile(name, "PNG", False, data, recorded(data, model.spec), probabilities)


def after(file: ConformanceFile, stage: str, **changes: Any) -> ConformanceFile:
    """The file with another record of all stages from ``stage`` on."""
    places = STAGES[STAGES.index(stage) :]
    return replace(file, stages={**file.stages, **{key: replace(file.stages[key], **changes) for key in places}})


@pytest.fixture
def holding(with_metadata: Edit) -> Callable[..., Classifier]:
    """Returns the model ``rgb.onnx`` with conformance files."""
    return lambda *files: Classifier(with_metadata("rgb.onnx", "cnn.conformance", pack(files)))


def test_the_observed_stages_end_in_the_pixels_of_the_model(rgb: Classifier, grey: Classifier) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (png(), png("L"), png("P"), png("RGBA"), png(exif=exif), png(size=(8, 8))):
        for model in (rgb, grey):
            found = stages_of(data, model.spec)
            assert tuple(found) == STAGES
            np.testing.assert_array_equal(found["resize"], to_pixels(data, model.spec))
            assert recorded(data, model.spec)["colour"].mode == ("RGB" if model is rgb else "L")
    assert recorded(png("P"), rgb.spec)["decode"].mode == "P"
    turned = recorded(png(exif=exif), rgb.spec)
    assert (turned["decode"].size, turned["orientation"].size) == ((12, 10), (10, 12))


def test_what_is_recorded_of_pixels() -> None:
    """The definitions of docs/contract.md, computed anew."""
    import hashlib

    samples = np.arange(11 * 3 * 3, dtype=np.uint8).reshape(11, 3, 3)
    found = pixels_of(samples)
    assert (found.mode, found.size) == ("RGB", (3, 11))
    assert found.sha256 == hashlib.sha256(samples.tobytes()).hexdigest()
    rows = [(2 * i + 1) * 11 // 10 for i in range(5)]
    assert found.sample == samples[rows].tobytes()
    wide = np.array([[258, 65535], [0, 4096]], np.uint16)
    found = pixels_of(Image.fromarray(wide))
    assert found == Pixels("I;16", (2, 2), hashlib.sha256(wide.astype("<u2").tobytes()).hexdigest(), b"\1\xff\0\x10")
    assert pixels_of(Image.new("1", (3, 2), 1)).sample == b"\1" * 6


def test_packing_keeps_every_record(rgb: Classifier) -> None:
    files = [entry(rgb, png()), entry(rgb, png("P"), "palette"), replace(entry(rgb, png("L")), own=True)]
    found, versions = read(pack(files))
    assert [replace(file, probabilities={}) for file in found] == [replace(file, probabilities={}) for file in files]
    for before, now in zip(files, found, strict=True):
        assert now.probabilities == pytest.approx(before.probabilities, abs=1e-7)
    assert {"numpy", "pillow", "simplejpeg", "onnxruntime", "libjpeg-turbo"} <= set(versions)


def test_agreement(rgb: Classifier, holding: Callable[..., Classifier]) -> None:
    found = verify_all(holding(entry(rgb, png()), entry(rgb, png("P"), "palette")))
    assert found.passed
    assert found.covers_pixels
    assert [(result.stage, result.compared, result.agreed) for result in found.stages] == [
        *((stage, 2, 2) for stage in STAGES),
        ("graph", 4, 4),
        ("probabilities", 2, 2),
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_stage_that_differs_is_named_with_the_distance(
    rgb: Classifier, holding: Callable[..., Classifier], stage: str
) -> None:
    file = entry(rgb, png())
    sample = np.frombuffer(file.stages[stage].sample, np.uint8).copy()
    sample[0] ^= 16
    found = verify_all(holding(after(file, stage, sha256="0" * 64, sample=sample.tobytes()), entry(rgb, png("L"))))
    (deviation,) = found.deviations
    assert (deviation.picture, deviation.stage, deviation.largest) == ("PNG", stage, 16)
    assert deviation.mean == pytest.approx(16 / 75)
    assert deviation.effect == pytest.approx(0, abs=1e-6)
    counts = {result.stage: (result.agreed, result.compared) for result in found.stages}
    place = STAGES.index(stage)
    assert counts == {
        **dict.fromkeys(STAGES[:place], (2, 2)),
        stage: (1, 2),
        **dict.fromkeys(STAGES[place + 1 :], (1, 1)),
        "graph": (4, 4),
        "probabilities": (1, 1),
    }


def test_other_sizes_modes_and_unsampled_pixels_are_told_in_words(
    rgb: Classifier, holding: Callable[..., Classifier]
) -> None:
    file = entry(rgb, png())
    for changes, reason in (
        ({"size": (3, 4)}, "12 x 10 pixels, at export 3 x 4"),
        ({"mode": "CMYK"}, "colour mode RGB, at export CMYK"),
        ({"sha256": "0" * 64}, "pixels differ, but none of the sampled ones"),
    ):
        (deviation,) = verify_all(holding(after(file, "colour", **changes))).deviations
        assert deviation.reason == reason


def test_another_mode_of_the_decoder_with_the_same_colours_agrees(
    rgb: Classifier, holding: Callable[..., Classifier]
) -> None:
    file = entry(rgb, png("P"))
    decoded = {name: replace(file.stages["colour"], sha256="1" * 64) for name in ("decode", "orientation")}
    assert verify_all(holding(replace(file, stages={**file.stages, **decoded}))).passed


def test_a_file_that_cannot_be_decoded_differs_in_decode(rgb: Classifier, holding: Callable[..., Classifier]) -> None:
    found = verify_all(holding(replace(entry(rgb, png()), data=b"RIFF....WEBPVP8 ")))
    (deviation,) = found.deviations
    assert deviation.stage == "decode"
    assert deviation.reason.startswith("cannot be decoded on this machine: ")


@pytest.mark.parametrize(("by", "passed"), [(5e-5, True), (2e-4, False), (float("nan"), False)])
def test_probabilities_have_the_tolerance_of_the_golden_pictures(
    rgb: Classifier, holding: Callable[..., Classifier], by: float, passed: bool
) -> None:
    file = entry(rgb, png())
    found = verify_all(holding(replace(file, probabilities={**file.probabilities, 2: file.probabilities[2] + by})))
    assert found.passed is passed
    assert [deviation.stage for deviation in found.deviations] == ([] if passed else ["probabilities"])


def test_int8_must_give_the_class_of_the_export_for_files_too(
    rgb: Classifier, holding: Callable[..., Classifier]
) -> None:
    int8 = replace(rgb.spec, details={"precision": "int8"})
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), (160, 160, 0)).save(stream, "PNG")  # red and green are equal: the lower index wins
    file = entry(rgb, stream.getvalue())
    for by, passed in ((0.0, True), (-0.01, True), (0.01, False), (0.03, False)):
        changed = replace(file, probabilities={**file.probabilities, 1: file.probabilities[1] + by})
        found = verify_all(Classifier(replace(holding(changed).model, spec=int8)))
        assert found.passed is passed, by
        if by == 0.01:
            assert found.deviations[0].reason == "green -> red, a probability differs by 0.01"


@pytest.mark.parametrize(
    ("certificate", "tolerance"),
    [
        ({"integers": {"proven": True, "floats": []}}, 1e-4),
        ({"integers": {"proven": True}}, 1e-4),
        ({"integers": {"proven": True, "floats": ["stage1"]}}, 0.02),
        ({"integers": {"proven": False}}, 0.02),
        ({"integers": {"proven": "yes"}}, 0.02),
        ({"integers": 5}, 0.02),
        ({}, 0.02),
        (None, 0.02),
    ],
)
def test_int8_with_proven_integers_has_the_tolerance_of_fp32(
    rgb: Classifier, certificate: object, tolerance: float
) -> None:
    details = {"precision": "int8", "parity": {"fp32_against_int8": certificate}}
    assert tolerance_of(replace(rgb.spec, details=details)) == tolerance
    assert tolerance_of(replace(rgb.spec, details={**details, "precision": "fp32"})) == 1e-4


def test_the_limits_of_a_classifier_do_not_count(rgb: Classifier, holding: Callable[..., Classifier]) -> None:
    model = holding(entry(rgb, png())).model
    assert verify_all(Classifier(model, max_pixels=1, max_bytes=1)).passed


def test_a_model_without_conformance_files_proves_the_graph_alone(rgb: Classifier) -> None:
    found = verify_all(rgb)
    assert found.passed
    assert not found.covers_pixels
    assert [result.stage for result in found.stages] == ["graph"]


def text_of(document: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(document).encode())).decode()


def damaged(rgb: Classifier) -> dict[str, str]:
    whole = pack([entry(rgb, png())])
    document = json.loads(zlib.decompress(base64.b64decode(whole)))
    (file,) = document["files"]

    def changed(**changes: object) -> str:
        return text_of({**document, "files": [{**file, **changes}]})

    return {
        "empty": "",
        "no base64": "?",
        "not compressed": base64.b64encode(b"{}").decode(),
        "cut off": base64.b64encode(base64.b64decode(whole)[:-9]).decode(),
        "too large": base64.b64encode(zlib.compress(bytes(20 << 20))).decode(),
        "no object": text_of(5),
        "no files": text_of({"format": 1, "versions": {}}),
        "files of another type": text_of({"format": 1, "versions": {}, "files": [5]}),
        "no versions": text_of({"format": 1, "versions": 5, "files": []}),
        "data": changed(data="?"),
        "no stages": changed(stages={}),
        "a stage of another type": changed(stages={"decode": 5}),
        "a size of another type": changed(stages={"decode": {**file["stages"]["decode"], "size": 5}}),
        "probabilities": changed(probabilities=5),
        "no index": changed(probabilities={"a": 0.5}),
        "a class that the model does not have": changed(probabilities={"4": 0.5}),
    }


def test_damaged_conformance_files_are_refused(rgb: Classifier, with_metadata: Edit) -> None:
    for name, text in damaged(rgb).items():
        with pytest.raises(ModelError, match="conformance files are damaged"):
            pytest.fail(f"{name}: {verify_all(Classifier(with_metadata('rgb.onnx', 'cnn.conformance', text)))}")


def test_a_newer_format_is_refused_by_name(with_metadata: Edit) -> None:
    with pytest.raises(ModelError, match="have format 2; this version reads 1: upgrade cnn-infer"):
        verify_all(Classifier(with_metadata("rgb.onnx", "cnn.conformance", text_of({"format": 2}))))


def test_the_golden_pictures_are_the_models_size_and_nothing_else(rgb: Classifier, with_metadata: Edit) -> None:
    """They test the graph alone, so they are not resized."""
    golden = json.loads(rgb.model.metadata["cnn.golden"])
    golden[0]["png"] = base64.b64encode(png()).decode()
    with pytest.raises(ModelError, match="golden pictures are damaged"):
        verify_all(Classifier(with_metadata("rgb.onnx", "cnn.golden", json.dumps(golden))))


def test_verification_is_public(models: Path) -> None:
    import cnn_infer

    found = cnn_infer.verify_all(Classifier(models / "grey.onnx"))
    assert isinstance(found, cnn_infer.Verification)
    assert isinstance(found.stages[0], cnn_infer.StageResult)
