"""Every JPEG file that this module can draw has the right pixels, upright, or is refused by name.

All 7,680 files (8 colour spaces, 24 of their samplings, 8 codings, 5 sizes, 8 orientations) have the right pixels.
Pillow alone decodes them right too, but turns none upright unless it is asked to.

The right pixels follow from the coefficients. Where libjpeg's djpeg and ImageMagick are installed, they must agree.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jpeg_writer as write
import numpy as np
import pytest
from cnn_infer import PictureError, Spec, read_header, to_pixels
from independent_decoders import Floats, imagemagick, needs, needs_imagemagick, netpbm

SIZES = ((1, 1), (5, 2), (13, 9), (17, 31), (40, 24))
"""Width and height: less than a block, odd ones, and whole units."""

LUMA = {  # horizontal and vertical factor of the first component; those of colour are 1
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:4:0": (1, 2),
    "4:2:0": (2, 2),
    "4:1:1": (4, 1),
    "4:1:0": (4, 2),
    "4:4:1": (1, 4),
}


class Colours(NamedTuple):
    """How components become red, green and blue.

    Attributes:
        head: Segments that name the colour space.
        ids: Identifiers of the components.
        samplings: Factors of all components, by name.
        to_rgb: From components (h, w, components) to RGB (h, w, 3), both 0 to 255.
    """

    head: bytes
    ids: bytes
    samplings: dict[str, write.Sampling]
    to_rgb: Callable[[Floats], Floats]


def of_luma(*names: str, black: bool = False) -> dict[str, write.Sampling]:
    """Black has the factors of luma."""
    return {name: (LUMA[name], (1, 1), (1, 1), *([LUMA[name]] if black else [])) for name in names}


def on_black(ink: Floats) -> Floats:
    """Adobe stores the complement of the inks: no ink is 255."""
    return ink[..., :3] * ink[..., 3:] / 255


YCC = of_luma(*LUMA) | {"4:2:2, doubled": ((2, 2), (1, 2), (1, 2)), "more colour than luma": ((1, 1), (2, 2), (2, 1))}
COLOURS = {
    "grey": Colours(
        write.JFIF, b"\1", {"1x1": ((1, 1),), "2x2": ((2, 2),)}, lambda grey: np.repeat(grey[..., :1], 3, -1)
    ),
    "YCbCr": Colours(write.JFIF, b"\1\2\3", YCC, write.rgb_of_ycc),
    "YCbCr by Adobe": Colours(write.adobe(1), b"\1\2\3", of_luma("4:4:4", "4:2:0"), write.rgb_of_ycc),
    "YCbCr, no marker": Colours(b"", b"\1\2\3", of_luma("4:2:0"), write.rgb_of_ycc),
    "RGB by Adobe": Colours(write.adobe(0), b"\1\2\3", of_luma("4:4:4", "4:2:0"), lambda rgb: rgb),
    "RGB by its letters": Colours(b"", b"RGB", of_luma("4:4:4", "4:2:2"), lambda rgb: rgb),
    "CMYK": Colours(write.adobe(0), b"CMYK", of_luma("4:4:4", "4:2:0", black=True), on_black),
    "YCCK": Colours(
        write.adobe(2),
        b"\1\2\3\4",
        of_luma("4:4:4", "4:2:2", "4:4:0", "4:2:0", black=True),
        lambda ycck: on_black(np.dstack([255 - write.rgb_of_ycc(ycck), ycck[..., 3:]])),
    ),
}

KINDS = [
    (colour, sampling, coding)
    for colour in COLOURS
    for sampling in COLOURS[colour].samplings
    for coding in write.CODINGS
]

TOLERANCE = 3.0
"""Largest effect of rounding; the inverse transform, the interpolation and the conversion of colours round."""


def test_so_many_files_are_drawn() -> None:
    assert len(KINDS) * len(SIZES) * 8 == 7680


def upright(stored: Floats, orientation: int) -> Floats:
    """Exif 2.32, tag 274: which side of the stored picture is the top, and which is the left."""
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored
    mirrored_rows = orientation in (3, 4, 7, 8)
    mirrored_columns = orientation in (2, 3, 6, 7)
    return turned[:: -1 if mirrored_rows else 1, :: -1 if mirrored_columns else 1]


def drawn(
    colour: str, sampling: str, coding: str, size: tuple[int, int], *, smooth: bool = True
) -> tuple[bytes, Floats]:
    """A file, and its right pixels as stored, 0 to 255."""
    kind = COLOURS[colour]
    factors = kind.samplings[sampling]
    components = write.drawn(*size, factors, seed=len(coding))
    data = write.jpeg(components, *size, coding=coding, ids=kind.ids, head=kind.head)
    planes = [write.upsampled(one, *size, factors, smooth=smooth) for one in components]
    return data, kind.to_rgb(np.stack(planes, -1))


def found(data: bytes) -> Floats:
    header = read_header(data)
    spec = Spec(("a", "b"), header.height, header.width, "rgb", "squash", "bilinear", 0, 1.0)
    return to_pixels(data, spec).astype(float)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_pixels_are_right_and_upright(kind: tuple[str, str, str]) -> None:
    for size in SIZES:
        data, stored = drawn(*kind, size)
        assert read_header(data).grey == (kind[0] == "grey")
        for orientation in range(1, 9):
            turned = data[:2] + write.exif(orientation) + data[2:]
            assert np.abs(found(turned) - upright(stored, orientation)).max() <= TOLERANCE, (size, orientation)


@needs("djpeg", "libjpeg-turbo-progs")
@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_djpeg_agrees_about_what_was_drawn(kind: tuple[str, str, str]) -> None:
    data, stored = drawn(*kind, SIZES[3])
    assert np.abs(netpbm(["djpeg", "-pnm"], data) - stored).max() <= TOLERANCE


@needs_imagemagick
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "K" in kind[0] and kind[2] in ("baseline", "progressive")])
def test_imagemagick_agrees_about_inks(kind: tuple[str, str, str], tmp_path: Path) -> None:
    data, stored = drawn(*kind, SIZES[3])
    assert np.abs(imagemagick(data, "jpg", stored.shape, tmp_path) - stored).max() <= TOLERANCE


@needs("djpeg", "libjpeg-turbo-progs")
@pytest.mark.parametrize("sampling", YCC)
def test_fast_upsampling_differs_by_less_than_half_of_the_steps_of_colour(sampling: str) -> None:
    """Repeated samples are at most 7/16 of the steps between neighbours from interpolated ones, 1/4 along one axis."""
    data, _ = drawn("YCbCr", sampling, "baseline", SIZES[3])
    repeated = drawn("YCbCr", sampling, "baseline", SIZES[3], smooth=False)[1]
    fast = netpbm(["djpeg", "-pnm", "-nosmooth"], data)
    assert np.abs(fast - repeated).max() <= TOLERANCE
    assert np.abs(fast - found(data)).max() <= 1.772 * 7 / 16 * 255 + TOLERANCE


def fixed() -> tuple[list[write.Component], tuple[int, int], write.Sampling]:
    """One unit of 4:2:0 whose coefficients are the same everywhere."""
    values = np.arange(6 * 64).reshape(6, 64) * 7919 % 41 - 20
    values *= values % 3 == 0
    values[:, 0] *= 20
    luma, blue, red = np.split(values, [4, 5])
    sampling = COLOURS["YCbCr"].samplings["4:2:0"]
    size = 15, 13
    components = [
        write.Component(2, 2, luma.reshape(2, 2, 64), size[1], size[0]),
        write.Component(1, 1, blue.reshape(1, 1, 64), 7, 8),
        write.Component(1, 1, red.reshape(1, 1, 64), 7, 8),
    ]
    return components, size, sampling


ARITHMETIC = {
    "sequential": (
        "/9j/4AAQSkZJRgABAgAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAwMDAwMDAwMDAwMDAwMDAwQE"
        "BAQEBAQEBAQEBAQEBAT/yQARCAANAA8DASIAAhEAAxEA/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwBLyIxGTB6iX1+De0iqfpBL"
        "t44KJE7ty0RRJBdVM5u/4dtpHvEZWKjgu+fPAxYSEiWJqkriPi62ZmzX4lPlQak3k8tMwAcqyGo15oFckMdkpskvHdXMGvB/9mIh"
        "Zxz4AXoybxkwPhtpVYMBhEfdA9TuQZhYUPo5u75ThglyoTqxfHqQBs85fkxUfJm6iq81F2JD+Cj/2Q=="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAgAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAwMDAwMDAwMDAwMDAwMDAwQE"
        "BAQEBAQEBAQEBAQEBAT/ygARCAANAA8DASIAAhEAAxEA/8wABgAQARD/2gAMAwEAAhADEAAAAWD/zAAEEAX/2gAIAQEAAQUCwP/M"
        "AAQRBf/aAAgBAwEBPwGcfznexkTZEdDDTFKzCQHpObb5UGbImP/MAAQRBf/aAAgBAgEBPwFf+8/F/rdHEDylvbBOUGSE7f8A214g"
        "QP/MAAQQBf/aAAgBAQAGPwJMcpGCBdc6Uad2H2lGUDo8tbo9qkmFb3sCWsWJU2zVY17BsvepUzq9zu73kglHreUoBnVed5Fo5WXF"
        "gP/MAAQQBf/aAAgBAQABPyFLzXrogR718MoSppah6YRVpglFq+rwUSLvJv/aAAwDAQACAAMAAAAQUP/MAAQRBf/aAAgBAwEBPxAd"
        "TwwAACxaRv/MAAQRBf/aAAgBAgEBPxBLxgFi0jAg/8wABBAF/9oACAEBAAE/EEvGAABYtIwFqav8LGnawrAyFAyZukpW/9k="
    ),
}
"""What jpegtran made of the file with those coefficients."""


@pytest.mark.parametrize("coding", ARITHMETIC)
def test_arithmetic_coding_gives_the_same_pixels(coding: str) -> None:
    components, size, sampling = fixed()
    stored = write.rgb_of_ycc(np.stack([write.upsampled(one, *size, sampling) for one in components], -1))
    assert np.abs(found(b64decode(ARITHMETIC[coding])) - stored).max() <= TOLERANCE


def test_lossless_grey_is_exact() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (11, 14))
    np.testing.assert_array_equal(found(write.lossless(samples)), np.repeat(samples[:, :, None], 3, 2))


def refused() -> dict[str, bytes]:
    """Files that no decoder here supports, by their name in the error."""
    data, _ = drawn("YCbCr", "4:4:4", "baseline", (17, 31))
    at = data.index(b"\xff\xc0")
    fractional = write.drawn(17, 31, ((3, 1), (2, 1), (1, 1)))
    pair = write.drawn(17, 31, ((1, 1), (1, 1)))
    return {
        "JPEG with 12 bits a sample": data[: at + 1] + b"\xc1" + data[at + 2 : at + 4] + b"\x0c" + data[at + 5 :],
        "hierarchical JPEG": data[: at + 1] + b"\xc5" + data[at + 2 :],
        "JPEG without a height in its header": data[: at + 5] + b"\0\0" + data[at + 7 :],
        "JPEG with 2 components": write.jpeg(pair, 17, 31, ids=b"\1\2"),
        "JPEG with fractional sampling factors": write.jpeg(fractional, 17, 31, ids=b"\1\2\3", head=write.JFIF),
    }


@pytest.mark.parametrize("name", refused())
def test_what_no_decoder_supports_is_refused_by_name(name: str) -> None:
    with pytest.raises(PictureError, match=f"^{name} is not supported: save it as grey or RGB"):
        found(refused()[name])


@pytest.mark.parametrize("ended", [True, False])
def test_a_file_of_thousands_of_scans_is_refused_before_it_is_decoded(ended: bool) -> None:
    """Each bit of each coefficient in a scan of its own, all zero: a small file that decodes for many seconds."""
    data = write.many_scans(4000, 4000)
    data = data if ended else data[:-2]
    for read in (read_header, found):
        with pytest.raises(PictureError, match=r"^the JPEG file has more than 500 scans: save it anew$"):
            read(data)


def test_a_file_of_very_many_segments_is_refused_early() -> None:
    data, _ = drawn("CMYK", "4:4:4", "baseline", (13, 9))
    data = data[:2] + write.segment(0xFE, b"") * 20_000 + data[2:-2]  # Pillow decodes it, and it lacks its end
    with pytest.raises(PictureError, match=r"^the JPEG file has more than 10,000 segments$"):
        found(data)


def test_embedded_files_do_not_count_as_scans() -> None:
    data, stored = drawn("grey", "1x1", "baseline", (13, 9))
    thumbnails = write.segment(0xE2, b"\xff\xda" * 600)
    assert np.abs(found(data[:2] + thumbnails + data[2:] + b"\xff\xda" * 600) - stored).max() <= TOLERANCE
