"""What to_pixels accepts, what it refuses, and with which message."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, PictureError, Spec, read_header, to_pixels
from PIL import Image

RNG = np.random.default_rng(1)


def spec(colour: str = "rgb", height: int = 9, width: int = 12, resize: str = "crop") -> Spec:
    return Spec(("a", "b"), height, width, colour, resize, "bilinear", 0, 1.0)  # type: ignore[arg-type]


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def jpeg(width: int = 60, height: int = 40) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def test_paths_strings_and_bytes_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    for source in (path, str(path)):
        np.testing.assert_array_equal(to_pixels(source, spec()), to_pixels(path.read_bytes(), spec()))


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 3), (3, 3, 3), (9, 12)])
def test_an_array_gives_the_pixels_of_its_image(shape: tuple[int, ...], colour: str, resize: str) -> None:
    array = RNG.integers(0, 256, shape, np.uint8)
    image = Image.fromarray(array[..., 0] if shape[2:] == (1,) else array)
    model = spec(colour, resize=resize)
    found = to_pixels(array, model)
    assert found.shape == model.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, to_pixels(image, model))


def test_arrays_of_any_memory_layout_are_accepted() -> None:
    array = RNG.integers(0, 256, (60, 40, 3), np.uint8)
    for view in (array.transpose(1, 0, 2), array[::-2, ::2], array[..., ::-1]):
        np.testing.assert_array_equal(to_pixels(view, spec()), to_pixels(view.copy(), spec()))


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_an_array_of_the_models_shape_is_returned_as_it_is(colour: str) -> None:
    model = spec(colour)
    array = RNG.integers(0, 256, model.shape, np.uint8)
    assert to_pixels(array, model) is array


@pytest.mark.parametrize(
    "array",
    [np.zeros((9, 12, 3), kind) for kind in (np.float32, np.float64, np.int64, np.int8, np.uint16, bool)]
    + [np.zeros(shape, np.uint8) for shape in ((), (5,), (5, 5, 2), (5, 5, 4), (1, 9, 12, 3), (0, 5), (5, 0, 3))],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="array must be"):
        to_pixels(array, spec())


@pytest.mark.parametrize("thing", [None, 7, [1, 2], object()])
def test_other_types_are_refused(thing: object) -> None:
    with pytest.raises(InputError, match="expected a path, bytes, a PIL image or a uint8 array"):
        to_pixels(thing, spec())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is no picture", "not a picture"),
        (b"%PDF-1.7 ", "not a picture"),
        (b"BMW and other words", "damaged or unsupported"),
        (b"RIFF....WAVEfmt ", "damaged or unsupported"),
        (b"GIF89a", "damaged or unsupported"),
        (b"II*\0", "damaged or unsupported"),
        (b"\xff\xd8\xff", "damaged or unsupported"),
        (b"\x89PNG\r\n\x1a\n", "damaged or unsupported"),
    ],
)
def test_bytes_that_are_not_a_picture_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        to_pixels(data, spec())
    with pytest.raises(PictureError, match=reason):
        read_header(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_truncated_file_is_refused_wherever_it_ends(form: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 60, 3), np.uint8)).save(stream, form)
    data = stream.getvalue()
    to_pixels(data, spec())
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(PictureError) as found:
            to_pixels(data[: int(share * len(data))], spec())
        assert "\n" not in str(found.value)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    data = png_that_claims(50_000, 50_000)
    assert len(data) < 200
    for read in (read_header, lambda data: to_pixels(data, spec())):
        with pytest.raises(PictureError, match="50000 x 50000 pixels exceed the limit of 100,000,000"):
            read(data)
    with pytest.raises(PictureError, match="damaged"):  # below the limit it is decoded, and its data are too short
        to_pixels(png_that_claims(500, 500), spec())


def test_max_pixels_is_inclusive() -> None:
    image = Image.new("RGB", (60, 40))
    for source in (image, jpeg()):
        to_pixels(source, spec(), max_pixels=2400)
        with pytest.raises(PictureError, match="60 x 40 pixels exceed the limit of 2,399"):
            to_pixels(source, spec(), max_pixels=2399)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, models: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    huge = tmp_path / "huge.jpg"  # a sparse file of a terabyte
    with huge.open("wb") as stream:
        stream.write(jpeg())
        stream.truncate(1 << 40)
    tracemalloc.start()
    for read in (read_header, lambda path: to_pixels(path, spec())):
        with pytest.raises(PictureError, match="the file has more than 400,000,000 bytes"):
            read(huge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    (tmp_path / "small.jpg").write_bytes(jpeg())
    done = cli("small.jpg", "huge.jpg", "small.jpg", "--model", models / "rgb.onnx", "--format", "csv")
    assert done.stdout.count(b"small.jpg,grey") == 2
    assert b'huge.jpg,,,,,"the file has more than 400,000,000 bytes"' in done.stdout


def test_max_bytes_is_inclusive(
    tmp_path: Path, models: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    data, path = jpeg(), tmp_path / "a.jpg"
    path.write_bytes(data)
    for source in (data, path):
        for limit, good in ((len(data), True), (len(data) - 1, False)):
            classifier = Classifier(models / "rgb.onnx", max_bytes=limit)
            with nullcontext() if good else pytest.raises(PictureError, match=f"more than {limit:,} bytes"):
                classifier.predict(source)
    done = cli("a.jpg", "--model", models / "rgb.onnx", "--max-bytes", str(len(data) - 1), code=1)
    assert f"the file has more than {len(data) - 1:,} bytes" in done.stdout.decode()
    cli("a.jpg", "--model", models / "rgb.onnx", "--max-bytes", str(len(data)))


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_max_bytes_holds_for_a_file_that_reports_a_size_of_0() -> None:
    assert os.stat("/proc/self/maps").st_size == 0
    with pytest.raises(PictureError, match="more than 1,000 bytes"):
        to_pixels("/proc/self/maps", spec(), max_bytes=1000)
    for limit in (10**15, 10**30):
        with pytest.raises(PictureError, match="not a picture"):
            to_pixels("/proc/self/maps", spec(), max_bytes=limit)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # without a writer
    for name in (tmp_path / "pipe.jpg", os.devnull):
        with pytest.raises(PictureError, match="a pipe or a device, not a file"):
            to_pixels(name, spec())


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(PictureError, match="no pixels"):
        to_pixels(Image.new("RGB", (0, 5)), spec())


def test_files_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="No such file"):
        to_pixels(tmp_path / "absent.jpg", spec())
    with pytest.raises(PictureError, match="it is a folder"):
        to_pixels(tmp_path, spec())
    with pytest.raises(PictureError, match="null byte"):
        to_pixels("a\0b.jpg", spec())
    with pytest.raises(PictureError, match="File name too long"):
        to_pixels("a" * 5000, spec())


def test_the_content_selects_the_decoder_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(jpeg())
    np.testing.assert_array_equal(to_pixels(path, spec()), to_pixels(path.read_bytes(), spec()))


def test_other_decoders_of_pillow_are_not_used() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (5, 5)).save(stream, "PPM")  # Pillow opens it, but it is not on our list
    Image.open(stream)
    with pytest.raises(PictureError, match="not a picture"):
        to_pixels(stream.getvalue(), spec())


def test_the_callers_image_is_not_changed() -> None:
    image = Image.open(io.BytesIO(jpeg()))
    before = image.size, image.mode
    to_pixels(image, spec("grey"))
    assert (image.size, image.mode) == before


def test_warnings_about_damaged_exif_are_not_printed(
    tmp_path: Path, models: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:
    Image.new("L", (20, 14), 250).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    done = cli("a.jpg", "--model", models / "grey.onnx", "--format", "csv")
    assert b"a.jpg,bright,2," in done.stdout
    assert b"EXIF" not in done.stderr


def test_one_jpeg_loads_only_what_it_needs(tmp_path: Path, models: Path, environment: dict[str, str]) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    command = [sys.executable, "-X", "importtime", "-m", "cnn_infer", "a.jpg", "--model", models / "rgb.onnx"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert {"onnxruntime", "cnn_infer.pixels.convert", "simplejpeg", "PIL.Image"} <= loaded
    slow = {"rich", "importlib.metadata", "email.message", "subprocess", "tempfile", "concurrent.futures", "hashlib"}
    decoders = {name for name in loaded if name.startswith("PIL.") and name.endswith("Plugin")}
    assert not loaded & (slow | {"torch", "onnx", "cnn_infer.proof.golden", "cnn_infer.command.info"})
    assert not decoders
