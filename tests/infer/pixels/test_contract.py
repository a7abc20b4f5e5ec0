"""What docs/contract.md says about pixels is what this package computes: its program and its formulas are run here."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Spec, read_header, to_pixels
from cnn_infer.pixels.resize import jpeg_divisor
from PIL import Image

PAGE = (Path(__file__).parents[3] / "docs" / "contract.md").read_text(encoding="utf-8")
FILTERS = ("bilinear", "bicubic", "lanczos", "box", "hamming")
MODES = ("squash", "crop", "pad")
SIDES = (1, 2, 3, 7, 8, 13, 21, 30)
FAULTS = {
    "another filter": ("FILTERS = {", "hamming = bilinear\nFILTERS = {"),
    "a constant of double precision": ("single(0.46)", "0.4601"),
    "no antialiasing": ("stretch = max(1.0, scale)", "stretch = 1.0"),
    "edges in double precision": ("start, end = single(start), single(end)", "pass"),
    "weights that are cut": ("(0.5 if share >= 0 else -0.5)", "0"),
    "weights of 20 bits": ("share * 2**22 + (0.5 if share >= 0 else -0.5))", "share * 2**20) * 4"),
    "samples that are cut": ("(2**21 + sum", "(sum"),
    "samples that are not limited": ("min(255, max(0, (2**21", "min(999, max(-99, (2**21"),
    "columns first": (
        "narrow = one_pass(rows, coefficients(len(rows[0]), left, right, width, name))\n"
        "    return transposed(one_pass(transposed(narrow), coefficients(len(rows), top, bottom, height, name)))",
        "low = transposed(one_pass(transposed(rows), coefficients(len(rows), top, bottom, height, name)))\n"
        "    return one_pass(low, coefficients(len(rows[0]), left, right, width, name))",
    ),
    "crop at whole pixels": ("edges = max(0.0, left)", "edges = float(round(max(0.0, left)))"),
    "halves rounded up": ("round(w / across)", "math.floor(w / across + 0.5)"),
    "padding on black": ("[128]", "[0]"),
    "padding at the bottom": ("(height - inner_height) // 2", "(height - inner_height + 1) // 2"),
}


def spec(mode: str, name: str, width: int, height: int, colour: str = "grey") -> Spec:
    return Spec(("a", "b"), height, width, colour, mode, name, 0, 1.0)  # type: ignore[arg-type]


def program(change: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """The functions of the page's program."""
    (code,) = re.findall(r"^```python\n(import math.*?)^```$", PAGE, re.M | re.S)
    assert change[0] in code
    names: dict[str, Any] = {}
    exec(code.replace(*change), names)
    return names


def differing(fitted: Callable[..., list[list[int]]], count: int) -> Iterator[tuple[object, ...]]:
    """The cases of ``count`` random shapes, with every filter and mode, in which the program gives other pixels."""
    random = np.random.default_rng(0)
    for w, h, width, height in [(5, 2, 3, 1), *random.choice(SIDES, (count, 4)).tolist()]:  # the first: 2.5 pixels wide
        picture = random.choice(np.array([0, 1, 60, 128, 200, 254, 255], np.uint8), (h, w))
        for mode in MODES:
            for name in FILTERS:
                want = to_pixels(picture, spec(mode, name, width, height))[:, :, 0].tolist()
                if fitted(picture.tolist(), width, height, mode, name) != want:
                    yield w, h, width, height, mode, name


def test_the_program_of_the_page_resizes_as_this_package_does() -> None:
    assert list(differing(program()["fitted"], 120)) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_program_is_seen(name: str) -> None:
    assert next(differing(program(FAULTS[name])["fitted"], 40))


def test_all_channels_are_resized_alike() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (19, 31, 3), np.uint8)
    fitted = program()["fitted"]
    for mode in MODES:
        found = to_pixels(picture, spec(mode, "lanczos", 12, 10, "rgb"))
        planes = [fitted(picture[:, :, channel].tolist(), 12, 10, mode, "lanczos") for channel in range(3)]
        np.testing.assert_array_equal(found, np.stack(planes, axis=2))


def formula(text: str, **values: Any) -> Any:
    """The value of a formula that the page has."""
    assert f"`{text}`" in PAGE, f"the page does not have the formula {text}"
    return eval(text, {"min": np.minimum}, values)


def pixels_of(image: Image.Image, colour: str = "rgb") -> np.ndarray:
    return to_pixels(image, spec("squash", "box", *image.size, colour)).astype(np.int64)


V, A = (axis.astype(np.int64) for axis in np.mgrid[0:256, 0:256])


def test_sixteen_bits_become_eight() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = pixels_of(Image.fromarray(values), "grey")[:, :, 0]
    np.testing.assert_array_equal(found, formula("(255 * v + 32767) // 65535", v=values.astype(np.int64)))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_blended_with_white(mode: str) -> None:
    image = Image.fromarray(np.stack([V] * (3 if mode == "RGBA" else 1) + [A], axis=2).astype(np.uint8))
    assert image.mode == mode
    want = formula("(t + (t >> 8)) >> 8", t=formula_of_t())
    np.testing.assert_array_equal(pixels_of(image, "grey")[:, :, 0], want)
    np.testing.assert_array_equal(pixels_of(image)[:, :, 2], want)


def formula_of_t() -> Any:
    text = "v * a + 255 * (255 - a) + 128"
    assert f"`t = {text}`" in PAGE
    return eval(text, {}, {"v": V, "a": A})


def test_premultiplied_alpha_is_undone() -> None:
    image = Image.frombytes("RGBa", (256, 256), np.stack([V, V, V, A], axis=2).astype(np.uint8).tobytes())
    undone = np.where((A == 0) | (A == 255), V, formula("min(255, 255 * v // a)", v=V, a=np.maximum(A, 1)))
    t = undone * A + 255 * (255 - A) + 128
    np.testing.assert_array_equal(pixels_of(image)[:, :, 0], (t + (t >> 8)) >> 8)


def test_inks_become_rgb() -> None:
    inks = np.random.default_rng(2).integers(0, 256, (64, 64, 4)).astype(np.int64)
    image = Image.frombytes("CMYK", (64, 64), inks.astype(np.uint8).tobytes())
    k = 255 - inks[:, :, 3:]
    assert "`k = 255 - K`: `t = C * k + 128` and" in PAGE
    t = inks[:, :, :3] * k + 128
    assert "`R = k - ((t + (t >> 8)) >> 8)`" in PAGE
    np.testing.assert_array_equal(pixels_of(image), k - ((t + (t >> 8)) >> 8))


def test_rgb_becomes_grey() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.int64)
    red, green, blue = np.moveaxis(pixels, 2, 0)
    want = formula("(19595 * R + 38470 * G + 7471 * B + 32768) >> 16", R=red, G=green, B=blue)
    np.testing.assert_array_equal(pixels_of(Image.fromarray(pixels.astype(np.uint8)), "grey")[:, :, 0], want)


def test_the_table_of_orientations() -> None:
    rows = re.findall(r"^\| (\d) \| `s\((.*), (.*)\)` \| `(\w)` x `(\w)` \|$", PAGE, re.M)
    assert [row[0] for row in rows] == list("12345678")
    stored = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    sides = {"W": 7, "H": 5}
    for orientation, across, down, width, height in rows:
        exif = Image.Exif()
        exif[274] = int(orientation)
        stream = io.BytesIO()
        Image.fromarray(stored).save(stream, "PNG", exif=exif)
        size = sides[width], sides[height]
        found = to_pixels(stream.getvalue(), spec("squash", "box", *size, "rgb"))
        for y in range(size[1]):
            for x in range(size[0]):
                place = {**sides, "x": x, "y": y}
                source = stored[eval(down, {}, place), eval(across, {}, place)]
                assert (found[y, x] == source).all(), (orientation, x, y)


def test_the_orientation_in_xmp_counts_only_where_exif_has_none() -> None:
    exif = Image.Exif()
    exif[271] = "maker"
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    for form in ("JPEG", "WEBP"):
        for given, width in (({"exif": exif}, 4), ({}, 8)):
            stream = io.BytesIO()
            Image.new("RGB", (8, 4)).save(stream, form, xmp=xmp, **given)
            assert read_header(stream.getvalue()).width == width


def test_the_divisor_of_jpeg_files() -> None:
    condition = "width >= n * ceil(2 * width / a - 1e-6)"
    assert f"`{condition}`" in PAGE
    assert "`height >= n * ceil(2 * height / d - 1e-6)`" in PAGE
    random = np.random.default_rng(5)
    for number in range(3000):
        width, height, to_width, to_height = map(int, random.integers(1, (900, 900, 99, 99)))
        mode = MODES[number % 3]
        a, d = width / to_width, height / to_height
        if mode != "squash":
            a = d = min(a, d) if mode == "crop" else max(a, d)
        least = np.ceil(2 * width / a - 1e-6), np.ceil(2 * height / d - 1e-6)
        want = next((n for n in (8, 4, 2) if width >= n * least[0] and height >= n * least[1]), 1)
        want = want if max(width, height) >= 8 else 1
        assert jpeg_divisor(width, height, spec(mode, "box", to_width, to_height)) == want
