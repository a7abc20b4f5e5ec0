"""Decoding with libjpeg-turbo directly gives the same pixels as Pillow, which decodes all other files."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import PictureError, Spec, read_header, to_pixels
from cnn_infer.pixels import jpeg
from jpeg_writer import exif, segment
from PIL import Image, ImageOps

SIZES = [(1, 1), (7, 5), (8, 8), (9, 17), (32, 32), (33, 31), (100, 63), (250, 130)]
FORMS: list[dict[str, object]] = [
    *({"subsampling": name, "quality": 90} for name in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")),
    {"quality": 5},
    {"quality": 100},
    {"progressive": True, "quality": 70},
    {"optimize": True},
    {"restart_marker_rows": 1},
    {"keep_rgb": True, "subsampling": "4:4:4"},
]


def spec(side: int = 4, colour: str = "rgb") -> Spec:
    return Spec(("a", "b"), side, side, colour, "squash", "bilinear", 0, 1.0)  # type: ignore[arg-type]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Gradients and noise: low and high frequencies, and colours that differ from pixel to pixel."""
    rng = np.random.default_rng(width * height)
    down, across = np.mgrid[0:height, 0:width]
    slopes = np.stack([down * 3, across * 2, down + across], axis=2) % 256
    noisy = np.clip(slopes + rng.normal(0, 25, slopes.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def encoded(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


def by_pillow(data: bytes, divisor: int = 1) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.draft(None, (max(1, image.width // divisor), max(1, image.height // divisor)))
    return np.asarray(image)


def directly(data: bytes, divisor: int = 1) -> np.ndarray:
    """The pixels that libjpeg-turbo decodes; fails if it leaves the file to Pillow."""
    header = jpeg.read_header(data)
    assert header is not None
    pixels = jpeg.decode(data, header, divisor)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join(f"{key}={value}" for key, value in form.items()))
def test_every_kind_of_jpeg_has_the_pixels_of_pillow(form: dict[str, object], mode: str) -> None:
    for size in SIZES:
        data = encoded(picture(*size, mode), **form)
        for divisor in (1, *jpeg.divisors(*size)):
            np.testing.assert_array_equal(directly(data, divisor), by_pillow(data, divisor), f"{size} / {divisor}")


def test_photographs_have_the_pixels_of_pillow() -> None:
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        pytest.skip("needs the two photographs of scikit-learn, which is not installed")
    photographs = sorted((Path(found.origin).parent / "datasets" / "images").glob("*.jpg"))
    assert len(photographs) == 2
    for path in photographs:
        data = path.read_bytes()
        for divisor in (1, 2, 4, 8):
            np.testing.assert_array_equal(directly(data, divisor), by_pillow(data, divisor))


@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_colours_are_converted_as_in_pillow(mode: str, colour: str) -> None:
    data = encoded(picture(20, 20, mode), quality=95)
    want = Image.open(io.BytesIO(data)).convert("RGB" if colour == "rgb" else "L")
    model = spec(20, colour)
    np.testing.assert_array_equal(to_pixels(data, model), np.asarray(want).reshape(model.shape))
    assert read_header(data) == (20, 20, mode == "L")
    assert (jpeg.read_header(data) is None) == (mode == "CMYK")


def test_a_damaged_file_is_decoded_by_pillow() -> None:
    data = encoded(picture(64, 64), quality=95)
    header = jpeg.read_header(data)
    assert header is not None
    damaged = bytearray(data)
    middle = (data.index(b"\xff\xda") + len(data)) // 2  # inside the compressed data
    damaged[middle : middle + 20] = bytes(20)
    assert jpeg.decode(bytes(damaged), header, 1) is None
    np.testing.assert_array_equal(to_pixels(bytes(damaged), spec(64)), by_pillow(bytes(damaged)))


def test_a_truncated_file_is_refused() -> None:
    data = encoded(picture(64, 64), quality=95)
    header = jpeg.read_header(data)
    assert header is not None
    for share in (0.5, 0.9, 0.99):
        short = data[: int(share * len(data))]
        assert jpeg.decode(short, header, 1) is None
        with pytest.raises(PictureError, match="damaged"):
            to_pixels(short, spec(64))


def test_max_pixels_holds_for_jpeg() -> None:
    data = encoded(picture(64, 50))
    to_pixels(data, spec(), max_pixels=3200)
    with pytest.raises(PictureError, match="64 x 50 pixels exceed the limit of 3,199"):
        to_pixels(data, spec(), max_pixels=3199)


FILLERS = {
    "a comment": segment(0xFE, b"hello"),
    "the bytes of a scan": segment(0xE0, b"JFXX\0\x10\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0"),
    "a profile in 150 parts": segment(0xE2, b"ICC_PROFILE\0\1\1") * 150,
    "more segments than are read": segment(0xE2, b"ICC_PROFILE\0\1\1") * 300,
    "fill bytes": b"\xff\xff\xff",
}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_the_orientation_is_found_behind_other_segments(filler: bytes, progressive: bool) -> None:
    data = encoded(picture(40, 30), quality=95, progressive=progressive)
    turned = data[:2] + filler + exif(6) + data[2:]
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned)))
    assert upright.size == (30, 40)
    model = Spec(("a", "b"), 40, 30, "rgb", "squash", "bilinear", 0, 1.0)
    np.testing.assert_array_equal(to_pixels(turned, model), np.asarray(upright))
    assert read_header(turned)[:2] == upright.size


def test_exif_behind_the_first_scan_is_not_read() -> None:
    data = encoded(picture(40, 30)) + exif(6)
    header = jpeg.read_header(data)
    assert header is not None
    assert not header.may_have_exif
    assert read_header(data) == (40, 30, False)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_scans_behind_a_complete_one_are_not_decoded(mode: str) -> None:
    data = encoded(picture(16, 16, mode))
    scan = data[data.index(b"\xff\xda") : -2]
    repeated = data[:-2] + scan * (jpeg.MAX_SCANS + 100) + data[-2:]
    header = jpeg.read_header(repeated)
    assert header is not None
    assert jpeg.decode(repeated, header, 1) is None
    with pytest.raises(PictureError, match="damaged or unsupported picture"):
        to_pixels(repeated, spec(16))
