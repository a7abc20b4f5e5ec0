"""Orientation, resizing, cropping, padding and reduced decoding give the pixels of plain Pillow calls."""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Spec, read_header, to_pixels
from PIL import Image, ImageOps

ORIENTATION = 0x0112
SIZES = [(50, 31), (31, 50), (100, 7), (12, 9), (13, 13), (3, 40)]
FILTERS = ["bilinear", "bicubic", "lanczos", "box", "hamming"]


def spec(resize: str = "squash", width: int = 12, height: int = 9, name: str = "bilinear", colour: str = "rgb") -> Spec:
    return Spec(("a", "b"), height, width, colour, resize, name, 0, 1.0)  # type: ignore[arg-type]


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    """A picture with four corners of different colours, so that a wrong orientation changes the pixels."""
    return Image.fromarray(np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]]], np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def resized(image: Image.Image, name: str, size: tuple[int, int] = (12, 9), box: tuple[float, ...] = ()) -> Image.Image:
    """Rows first, then columns, as Pillow 12 does in one call; Pillow 13 starts with the columns of tall pictures."""
    left, top, right, bottom = box or (0, 0, *image.size)
    narrow = image.resize((size[0], image.height), Image.Resampling[name.upper()], (left, 0, right, image.height))
    return narrow.resize(size, Image.Resampling[name.upper()], (0, top, size[0], bottom))


def jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_squash_resizes_the_whole_picture(size: tuple[int, int], name: str) -> None:
    image = noise(*size)
    want = resized(image, name)
    np.testing.assert_array_equal(to_pixels(image, spec("squash", name=name)), np.asarray(want))


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_crop_keeps_the_largest_centred_box(size: tuple[int, int], name: str) -> None:
    width, height = size
    step = min(Fraction(width, 12), Fraction(height, 9))
    left, top = (width - 12 * step) / 2, (height - 9 * step) / 2
    box = tuple(map(float, (left, top, width - left, height - top)))
    image = noise(*size)
    want = resized(image, name, box=box)
    found = to_pixels(image, spec("crop", name=name)).astype(int)
    assert np.abs(found - np.asarray(want)).max() <= 1  # the corners of a box are binary fractions


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_pad_shows_everything_on_mid_grey(size: tuple[int, int], name: str) -> None:
    width, height = size
    step = max(Fraction(width, 12), Fraction(height, 9))
    inner = (max(1, round(width / step)), max(1, round(height / step)))
    want = Image.new("RGB", (12, 9), (128, 128, 128))
    image = noise(*size)
    want.paste(resized(image, name, inner), ((12 - inner[0]) // 2, (9 - inner[1]) // 2))
    np.testing.assert_array_equal(to_pixels(image, spec("pad", name=name)), np.asarray(want))


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_picture_of_the_models_size_is_not_changed(resize: str) -> None:
    image = noise(12, 9)
    np.testing.assert_array_equal(to_pixels(image, spec(resize)), np.asarray(image))


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_very_wide_picture(tmp_path: Path, resize: str) -> None:
    pixels = np.zeros((20, 30_000, 3), np.uint8)
    pixels[:, 14_000:16_000] = (250, 10, 20)
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    found = to_pixels(path, spec(resize))
    assert found.shape == (9, 12, 3)
    middle = {"squash": found[:, 5:7], "crop": found, "pad": found[4, 5:7]}[resize]
    assert middle[..., 0].min() > (150 if resize == "crop" else 90)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_jpeg_is_turned_upright(orientation: int, resize: str) -> None:
    data = jpeg(smooth(20, 14), orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    want = to_pixels(np.asarray(upright), spec(resize))
    for source in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(to_pixels(source, spec(resize)), want)
    assert read_header(data)[:2] == upright.size


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP"])
def test_other_formats_are_turned_upright(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    smooth(20, 14).save(stream, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    data = stream.getvalue()
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert upright.size == ((14, 20) if orientation >= 5 else (20, 14))
    want = to_pixels(np.asarray(upright), spec("crop"))
    for source in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(to_pixels(source, spec("crop")), want)
    assert read_header(data)[:2] == upright.size


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_picture_with_damaged_exif_is_read() -> None:
    stream = io.BytesIO()
    smooth(20, 14).save(stream, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff")
    want = to_pixels(np.asarray(Image.open(io.BytesIO(stream.getvalue()))), spec())
    np.testing.assert_array_equal(to_pixels(stream.getvalue(), spec()), want)


def divisor(width: int, height: int, model: Spec) -> int:
    """The largest of 8, 4, 2, 1 that leaves the picture at least twice the size it is resized to, exactly."""
    across, down = Fraction(width, model.width), Fraction(height, model.height)
    if model.resize != "squash":
        across = down = (min if model.resize == "crop" else max)(across, down)
    target = (ceil(2 * width / across), ceil(2 * height / down))
    return next((d for d in (8, 4, 2) if width >= d * target[0] and height >= d * target[1]), 1)


def at_scale(data: bytes, by: int) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    width, height = image.size
    image.draft(None, (width // by, height // by))
    assert image.size == (ceil(width / by), ceil(height / by))
    return image


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((192, 144), 8),
        ((191, 144), 4),
        ((192, 143), 4),
        ((96, 72), 4),
        ((95, 72), 2),
        ((48, 36), 2),
        ((47, 36), 1),
        ((400, 144), 8),
        ((192, 400), 8),
        ((48, 400), 2),
        ((12, 9), 1),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_the_rule_allows(
    size: tuple[int, int], want: int, orientation: int, resize: str
) -> None:
    model = spec(resize)
    stored = (size[1], size[0]) if orientation == 6 else size  # ``size`` is upright
    data = jpeg(noise(*stored), orientation)
    by = divisor(*size, model)
    if resize == "squash":
        assert by == want
    upright = ImageOps.exif_transpose(at_scale(data, by))
    np.testing.assert_array_equal(to_pixels(data, model), to_pixels(np.asarray(upright), model))


@pytest.mark.parametrize(("side", "size", "by"), [(28, (453, 448), 8), (100, (803, 800), 4), (28, (448, 453), 8)])
def test_rounding_errors_do_not_change_the_divisor(side: int, size: tuple[int, int], by: int) -> None:
    model = spec("squash", side, side)
    data = jpeg(noise(*size))
    want = at_scale(data, by)
    np.testing.assert_array_equal(to_pixels(data, model), to_pixels(np.asarray(want), model))


def test_only_jpeg_files_are_decoded_at_a_reduced_size() -> None:
    stream = io.BytesIO()
    noise(192, 144).save(stream, "PNG")
    want = noise(192, 144).resize((12, 9), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(to_pixels(stream.getvalue(), spec()), np.asarray(want))
    data = jpeg(noise(192, 144))
    whole = to_pixels(Image.open(io.BytesIO(data)), spec())  # nor is a PIL image that the caller opened
    np.testing.assert_array_equal(whole, to_pixels(np.asarray(Image.open(io.BytesIO(data))), spec()))
    assert (whole != to_pixels(data, spec())).any()


def test_pixels_are_the_same_in_every_version_of_pillow() -> None:
    """The digest is that of Pillow 12.0, which resizes rows before columns; Pillow 13.0 does that for most shapes."""
    random, digest = np.random.default_rng(13), hashlib.sha256()
    for number in range(450):
        width, height = map(int, random.integers(1, 200, 2))
        across, down = map(int, random.integers(1, 60, 2))
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        resize = ("squash", "crop", "pad")[number % 3]
        digest.update(to_pixels(picture, spec(resize, across, down, FILTERS[number % 5])).tobytes())
    assert digest.hexdigest() == "fbbe1c3ed9b305c8a22e92cb603b47427bb017c9adc70d6b404d89d4959b4371"
