"""Pictures of every colour mode become the 8-bit grey or RGB that plain Pillow calls give."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import PictureError, Spec, read_header, to_pixels
from PIL import Image

SIDE = 12
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (SIDE, SIDE), np.uint8)
GREYS = RNG.integers(0, 256, (SIDE, SIDE), np.uint8)


def spec(colour: str, size: int = SIDE) -> Spec:
    return Spec(("a", "b"), size, size, colour, "squash", "bilinear", 0, 1.0)  # type: ignore[arg-type]


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def check(data: bytes, rgb: np.ndarray, grey: np.ndarray | None = None) -> None:
    """Check both colour modes of a model, from bytes and from a PIL image."""
    for source in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(to_pixels(source, spec("rgb")), rgb)
        np.testing.assert_array_equal(to_pixels(source, spec("grey"))[..., 0], luma(rgb) if grey is None else grey)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_rgb(form: str) -> None:
    check(saved(Image.fromarray(COLOURS), form, **({"lossless": True} if form == "WEBP" else {})), COLOURS)


def test_jpeg_is_what_pillow_decodes() -> None:
    data = saved(Image.fromarray(COLOURS), "JPEG", quality=90)
    check(data, np.asarray(Image.open(io.BytesIO(data))))


def test_grey() -> None:
    check(saved(Image.fromarray(GREYS), "PNG"), np.stack([GREYS] * 3, axis=-1), GREYS)


def test_one_bit() -> None:
    bits = GREYS > 127
    grey = np.where(bits, 255, 0).astype(np.uint8)
    for form in ("PNG", "TIFF", "BMP"):
        check(saved(Image.fromarray(bits), form), np.stack([grey] * 3, axis=-1), grey)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_divided_by_257_and_rounded(form: str) -> None:
    values = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    values.flat[:4] = (128, 129, 65406, 65407)  # on both sides of a rounding step
    grey = np.round(values / 257).astype(np.uint8)
    check(saved(Image.fromarray(values), form), np.stack([grey] * 3, axis=-1), grey)


def test_palette() -> None:
    image = Image.fromarray(COLOURS).quantize(32)
    check(saved(image, "PNG"), np.asarray(image.convert("RGB")))


def test_a_transparent_palette_is_blended_with_white() -> None:
    image = Image.new("P", (SIDE, SIDE), 1)
    image.putpalette([200, 0, 0, 0, 90, 0])
    image.paste(0, (0, 0, SIDE, SIDE // 2))
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[: SIDE // 2], rgb[SIDE // 2 :] = 255, (0, 90, 0)
    check(saved(image, "PNG", transparency=0), rgb)
    check(saved(image, "GIF", transparency=0), rgb)
    half = np.round(0.5 * np.array([200, 0, 0]) + 127.5)  # an alpha for each palette entry
    found = to_pixels(saved(image, "PNG", transparency=bytes([128, 255])), spec("rgb"))
    assert np.abs(found[0, 0].astype(int) - half).max() <= 1
    np.testing.assert_array_equal(found[-1, -1], [0, 90, 0])


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_rgba_is_blended_with_white(form: str) -> None:
    data = saved(
        Image.fromarray(np.dstack([COLOURS, ALPHA])),
        form,
        **({"lossless": True, "exact": True} if form == "WEBP" else {}),
    )
    found = to_pixels(data, spec("rgb")).astype(int)
    assert np.abs(found - on_white(COLOURS, ALPHA)).max() <= 1
    np.testing.assert_array_equal(to_pixels(data, spec("grey"))[..., 0], luma(found.astype(np.uint8)))


def test_grey_with_alpha_is_blended_with_white() -> None:
    data = saved(Image.fromarray(np.dstack([GREYS, ALPHA]), "LA"), "PNG")
    want = on_white(GREYS[..., None], ALPHA)[..., 0]
    assert np.abs(to_pixels(data, spec("grey"))[..., 0] - want).max() <= 1
    assert np.abs(to_pixels(data, spec("rgb")) - want[..., None]).max() <= 1


def test_grey_with_one_transparent_value_is_blended_with_white() -> None:
    greys = GREYS.copy()
    greys[0, 0] = 7
    want = np.where(greys == 7, 255, greys)
    check(saved(Image.fromarray(greys), "PNG", transparency=7), np.stack([want] * 3, axis=-1), want)


def test_premultiplied_alpha_is_undone() -> None:
    image = Image.new("RGBA", (SIDE, SIDE), (200, 100, 0, 128)).convert("RGBa")
    want = on_white(np.array([[[200, 100, 0]]]), np.array([[128]]))[0, 0]
    assert np.abs(to_pixels(image, spec("rgb"))[0, 0] - want).max() <= 2


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk(form: str) -> None:
    image = Image.fromarray(COLOURS).convert("CMYK")
    data = saved(image, form)
    check(data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert np.abs(to_pixels(data, spec("rgb")).astype(int) - COLOURS).mean() < 60  # not inverted


def test_thirty_two_bits_a_channel_are_refused() -> None:
    for mode in ("F", "I"):
        with pytest.raises(PictureError, match="32 bits"):
            to_pixels(saved(Image.new(mode, (SIDE, SIDE)), "TIFF"), spec("grey"))


def test_the_first_frame_of_an_animated_gif_is_used(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    assert getattr(Image.open(path), "n_frames", 1) == 3
    assert (to_pixels(path, spec("rgb")) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("mode", "form", "is_grey"),
    [
        ("1", "PNG", True),
        ("L", "JPEG", True),
        ("LA", "PNG", True),
        ("I;16", "PNG", True),
        ("RGB", "JPEG", False),
        ("P", "PNG", False),
        ("RGBA", "PNG", False),
        ("CMYK", "JPEG", False),
    ],
)
def test_the_header_has_size_and_colour(mode: str, form: str, is_grey: bool) -> None:
    assert read_header(saved(Image.new(mode, (30, 20)), form)) == (30, 20, is_grey)
