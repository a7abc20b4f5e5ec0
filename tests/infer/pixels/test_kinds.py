"""Files as cameras, phones and old programs write them: read right, or refused by name."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import zlib

import numpy as np
import picture_writers as write
import pytest
from cnn_infer import PictureError, Spec, read_header, to_pixels
from numpy.typing import NDArray
from PIL import Image, features

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (3, 4, 3), np.uint8)).resize((16, 12)))
"""12 rows, 16 columns: no two corners alike."""


def pixels(data: bytes) -> NDArray[np.uint8]:
    header = read_header(data)
    return to_pixels(data, Spec(("a", "b"), header.height, header.width, "rgb", "squash", "bilinear", 0, 1.0))


def saved(form: str, picture: NDArray[np.uint8] = SMOOTH, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, form, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def compressed_text(keyword: bytes, text: bytes) -> bytes:
    return write.chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(text))


ANCILLARY = {
    "2 MB of text": compressed_text(b"Comment", bytes(2 << 20)),
    "2 MB of colour profile": write.chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2 << 20))),
    "a text that cannot be decompressed": write.chunk(b"zTXt", b"Comment\0\0no deflate"),
    "a damaged checksum": write.chunk(b"tEXt", b"Comment\0hello")[:-4] + b"\0\0\0\0",
    "a private chunk": write.chunk(b"prVt", bytes(100)),
    "a physical size of another length": write.chunk(b"pHYs", b"\0"),
}


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("kind", ANCILLARY)
def test_what_is_beside_the_pixels_of_a_png_never_makes_them_unreadable(kind: str, place: str) -> None:
    data = write.png(SMOOTH.astype(int), 8, 2, **{place: ANCILLARY[kind]})
    np.testing.assert_array_equal(pixels(data), SMOOTH)


@pytest.mark.parametrize("damage", [b"IDAT", b"IHDR"])
def test_a_damaged_chunk_of_pixels_is_refused(damage: bytes) -> None:
    data = bytearray(write.png(SMOOTH.astype(int), 8, 2))
    data[data.index(damage) + 6] ^= 0xFF
    with pytest.raises(PictureError):
        pixels(bytes(data))


def exif(orientation: int) -> bytes:
    """The least EXIF block: one entry, tag 274."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + bytes(4)


def raw_profile(name: bytes, block: bytes) -> bytes:
    """EXIF in a text chunk, as ImageMagick wrote it."""
    lines = [block.hex()[start : start + 72] for start in range(0, len(block) * 2, 72)]
    return b"\n" + name + b"\n%8d\n" % len(block) + "\n".join(lines).encode() + b"\n"


UPRIGHT = {
    1: SMOOTH,
    2: SMOOTH[:, ::-1],
    3: SMOOTH[::-1, ::-1],
    4: SMOOTH[::-1],
    5: SMOOTH.swapaxes(0, 1),
    6: np.rot90(SMOOTH, -1),
    7: SMOOTH[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(SMOOTH),
}


def test_later_frames_of_a_gif_are_whole_pictures() -> None:
    first = Image.fromarray(RNG.integers(0, 16, (12, 16), np.uint8), "P")
    first.putpalette(RNG.integers(0, 256, 48).astype("u1").tobytes())
    changed = np.asarray(first).copy()
    changed[3:6, 4:8] ^= 1
    second = Image.fromarray(changed, "P")
    second.putpalette(first.palette)
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=[second], duration=100, optimize=False)
    moving = Image.open(stream)
    moving.seek(1)
    spec = Spec(("a", "b"), 12, 16, "rgb", "squash", "bilinear", 0, 1.0)
    np.testing.assert_array_equal(to_pixels(moving, spec), np.asarray(second.convert("RGB")))


def small_gif_on_a_large_screen() -> bytes:
    data = bytearray(saved("GIF", SMOOTH[:, :, 0]))
    data[6:10] = struct.pack("<HH", 20, 15)
    return bytes(data)


def png_with_a_transparent_colour(channels: int) -> bytes:
    values = RNG.integers(0, 1 << 16, (6, 8, channels))
    values[:3] = values[0, 0]
    key = struct.pack(f">{channels}H", *values[0, 0])
    return write.png(values, 16, 0 if channels == 1 else 2, transparency=key)


@pytest.mark.parametrize(
    "data",
    [small_gif_on_a_large_screen(), png_with_a_transparent_colour(1), png_with_a_transparent_colour(3)],
    ids=["small GIF", "grey PNG", "RGB PNG"],
)
def test_an_opened_image_has_the_pixels_of_its_file_each_time(data: bytes) -> None:
    image = Image.open(io.BytesIO(data))
    spec = Spec(("a", "b"), *reversed(image.size), "rgb", "squash", "bilinear", 0, 1.0)
    for _ in range(2):
        np.testing.assert_array_equal(to_pixels(image, spec), to_pixels(data, spec))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("how", ["eXIf", "zTXt", "tEXt", "APP1"])
def test_a_png_is_turned_upright_wherever_its_exif_block_is(how: str, orientation: int) -> None:
    block = exif(orientation)
    if how == "eXIf":
        part = write.chunk(b"eXIf", block)
    elif how == "zTXt":
        part = compressed_text(b"Raw profile type exif", raw_profile(b"exif", b"Exif\0\0" + block))
    else:
        keyword = b"Raw profile type " + (b"exif" if how == "tEXt" else b"APP1")
        part = write.chunk(b"tEXt", keyword + b"\0" + raw_profile(b"exif", b"Exif\0\0" + block))
    for place in ("before", "behind"):
        data = write.png(SMOOTH.astype(int), 8, 2, **{place: part})
        np.testing.assert_array_equal(pixels(data), UPRIGHT[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_upright(orientation: int) -> None:
    data = write.tiff(SMOOTH.astype(int), 8, 2, orientation=orientation)
    np.testing.assert_array_equal(pixels(data), UPRIGHT[orientation])


KINDS_OF_JPEG: dict[str, tuple[str, dict[str, object]]] = {
    "baseline": ("RGB", {}),
    "progressive": ("RGB", {"progressive": True}),
    "grey": ("L", {}),
    "CMYK": ("CMYK", {}),
    "progressive CMYK": ("CMYK", {"progressive": True}),
}


def jpeg(kind: str) -> bytes:
    mode, options = KINDS_OF_JPEG[kind]
    stream = io.BytesIO()
    Image.fromarray(SMOOTH).resize((96, 72)).convert(mode).save(stream, "JPEG", **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(kind: str) -> None:
    data = jpeg(kind)
    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(pixels(data[:-2]), pixels(data))


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_a_jpeg_that_lacks_more_is_refused_wherever_it_ends(kind: str) -> None:
    data = jpeg(kind)
    refused = 0
    for end in range(len(data) // 3, len(data) - 2):
        try:
            found = pixels(data[:end])
        except PictureError:
            refused += 1
        else:  # half of the end marker, or a last byte that only fills up
            np.testing.assert_array_equal(found, pixels(data))
            assert end >= len(data) - 3
    assert refused >= len(data) - 3 - len(data) // 3


BOX = b"\0\0\0\x0c"
FOREIGN = {
    "JPEG 2000": BOX + b"jP  \r\n\x87\n" + bytes(50),
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "PSD": b"8BPS\0\1" + bytes(50),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_kinds_that_are_not_decoded_are_named(kind: str) -> None:
    for read in (pixels, read_header):
        with pytest.raises(PictureError, match=f"{kind} files are not supported: save it as JPEG or PNG"):
            read(FOREIGN[kind])


HEIF = importlib.util.find_spec("pillow_heif") is not None


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_heic_is_named_with_the_extra_that_reads_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # its import fails, also where it is installed
    data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(100)
    with pytest.raises(PictureError, match=r"HEIC files need .* pip install 'cnn-infer\[heif\]'"):
        pixels(data)


@pytest.mark.skipif(not HEIF, reason="needs the extra cnn-infer[heif]")
def test_heic_goes_through_the_same_colour_policy() -> None:
    import pillow_heif

    alpha = np.full((*SMOOTH.shape[:2], 1), 255, np.uint8)
    alpha[:6] = 0
    large = np.asarray(Image.fromarray(np.dstack([SMOOTH, alpha])).resize((64, 48), Image.Resampling.NEAREST))
    file = pillow_heif.from_pillow(Image.fromarray(large))
    stream = io.BytesIO()
    file.save(stream, quality=100, chroma=444)
    found = pixels(stream.getvalue()).astype(int)
    assert np.abs(found[28:] - large[28:, :, :3]).max() <= 12
    assert found[:20].min() >= 250


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("alpha", [False, True])
def test_avif_goes_through_the_same_colour_policy(alpha: bool) -> None:
    picture = np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 255, np.uint8)]) if alpha else SMOOTH
    if alpha:
        picture[:6, :, 3] = 0
    data = saved("AVIF", picture, quality=100, subsampling="4:4:4")
    found = pixels(data).astype(int)
    assert np.abs(found[6:] - SMOOTH[6:]).max() <= 6
    assert np.abs(found[:6] - (255 if alpha else SMOOTH[:6].astype(int))).max() <= 6


STRANGE_TIFFS = {
    "10 bits": (write.tiff(RNG.integers(0, 1024, (6, 8, 1)), 10, 1), r"samples of 10 bits \(grey\)"),
    "14 bits": (write.tiff(RNG.integers(0, 1 << 14, (6, 8, 1)), 14, 1), r"samples of 14 bits \(grey\)"),
    "signed 8 bits": (write.tiff(RNG.integers(0, 256, (6, 8, 1)), 8, 1, sample_format=2), "signed samples of 8 bits"),
    "signed 16 bits": (
        write.tiff(RNG.integers(0, 999, (6, 8, 1)), 16, 1, sample_format=2),
        "signed samples of 16 bits",
    ),
    "CIELab": (write.tiff(RNG.integers(0, 256, (6, 8, 3)), 8, 8), "CIELab"),
}


@pytest.mark.parametrize("kind", STRANGE_TIFFS)
def test_tiffs_without_an_agreed_way_to_grey_or_rgb_are_refused_by_name(kind: str) -> None:
    data, reason = STRANGE_TIFFS[kind]
    for read in (pixels, read_header):
        with pytest.raises(PictureError, match=rf"({reason}).* is not supported"):
            read(data)
