"""TIFF files of every compression, in strips and tiles, have the right pixels, or are refused by name.

Of 1,674 files 1,624 have the right pixels, and 50 are refused. Pillow alone, with its usual conversions, gives wrong
pixels for 218 of them without an error, and fails for 133.

The right pixels follow from the samples, as in test_combinations.py. Where libtiff's tools and ImageMagick are
installed, files that tiffcp wrote again have the same pixels, and tiff2rgba and ImageMagick agree.
"""

from __future__ import annotations

import io
import re
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import jpeg_writer
import numpy as np
import picture_writers as write
import pytest
from cnn_infer import PictureError, Spec, to_pixels
from drawn_pictures import RNG, WHITE, Drawn, found, in_bytes, of_ink, on_white, rgb, samples
from independent_decoders import imagemagick, needs, needs_imagemagick
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, TiffTags

SIZE = 37, 29
"""Height and width: no multiple of a strip or a tile."""

ARRANGEMENTS: dict[str, dict[str, object]] = {
    "one strip": {},
    "strips of 4 rows": {"rows": 4},
    "strips of 5 rows": {"rows": 5},
    "tiles of 16": {"tile": (16, 16)},
    "tiles of 32 x 16": {"tile": (32, 16)},
    "a large tile": {"tile": (48, 32)},
}

KINDS = {  # photometric interpretation, bits, samples, other options
    "grey 1": (1, 1, 1, {}),
    "grey 1, white is zero": (0, 1, 1, {}),
    "grey 4": (1, 4, 1, {}),
    "grey 8": (1, 8, 1, {}),
    "grey 12": (1, 12, 1, {}),
    "grey 16": (1, 16, 1, {}),
    "grey 16, white is zero": (0, 16, 1, {}),
    "RGB 8": (2, 8, 3, {}),
    "RGB 16": (2, 16, 3, {}),
    "RGB 8 and alpha": (2, 8, 4, {"extra": 2}),
    "palette 4": (3, 4, 1, {}),
    "CMYK 8": (5, 8, 4, {}),
}


def shown(kind: str, values: NDArray[np.int64], palette: NDArray[np.int64]) -> NDArray[np.float64]:
    photometric, bits, _, _ = KINDS[kind]
    scaled = in_bytes(values, bits)
    if photometric <= 1:
        return rgb(WHITE - scaled if photometric == 0 else scaled)
    if photometric == 3:
        return palette.T[values[:, :, 0]].astype(float)
    if photometric == 5:
        return of_ink(scaled)
    return on_white(scaled[:, :, :3], scaled[:, :, 3:]) if scaled.shape[2] == 4 else scaled


def arranged() -> Iterator[Drawn]:
    for kind, (photometric, bits, count, options) in KINDS.items():
        values = samples(bits, count, *SIZE)
        palette = RNG.integers(0, 256, (3, 1 << bits)) if photometric == 3 else np.zeros((3, 1), int)
        pixels = shown(kind, values, palette)
        colours = {"colour_map": palette * 257} if photometric == 3 else {}
        layouts = product(write.COMPRESSIONS, ARRANGEMENTS, (1, 2) if count > 1 else (1,), (False, True))
        for compression, arrangement, planar, big_endian in layouts:
            predicting = (False, True) if bits in (8, 16) and compression in ("lzw", "deflate") else (False,)
            for predictor in predicting:
                data = write.tiff(
                    values,
                    bits,
                    photometric,
                    planar=planar,
                    compression=compression,
                    big_endian=big_endian,
                    predictor=predictor,
                    **options,  # type: ignore[arg-type]
                    **ARRANGEMENTS[arrangement],  # type: ignore[arg-type]
                    **colours,
                )
                how = f"{compression}{' of differences' if predictor else ''}"
                tail = f"planar {planar}, {how}, {arrangement}, {'MM' if big_endian else 'II'}"
                yield Drawn(f"{kind}, {tail}", data, pixels, 3.0 if count == 4 else 1.0)


def unusual() -> Iterator[Drawn]:
    """The lowest bit of each byte first; a plane for each sample where there is only one."""
    fill = {"the lowest bit first": 2, "the highest bit first": 1}
    for kind, planar, compression, order in product(KINDS, (1, 2), ("none", "lzw", "packbits"), fill):
        photometric, bits, count, options = KINDS[kind]
        values = samples(bits, count, *SIZE)
        palette = RNG.integers(0, 256, (3, 1 << bits)) if photometric == 3 else np.zeros((3, 1), int)
        data = write.tiff(
            values,
            bits,
            photometric,
            planar=planar,
            compression=compression,
            fill_order=fill[order],
            colour_map=palette * 257 if photometric == 3 else None,
            **options,  # type: ignore[arg-type]
        )
        pixels = shown(kind, values, palette)
        yield Drawn(f"{kind}, planar {planar}, {compression}, {order}", data, pixels, 3.0 if count == 4 else 1.0)


def ycbcr() -> Iterator[Drawn]:
    for across, down in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2)):
        values = samples(8, 3, *SIZE)
        first_rows, first_columns = np.arange(SIZE[0]) // down * down, np.arange(SIZE[1]) // across * across
        values[:, :, 1:] = values[first_rows][:, first_columns, 1:]
        content = write.ycc_units(values, across, down)
        pixels = jpeg_writer.rgb_of_ycc(values.astype(float))
        for compression, big_endian in product(write.COMPRESSIONS, (False, True)):
            compress = write.COMPRESSIONS[compression][1]
            data = write.tiff(
                values,
                8,
                6,
                compression=compression,
                big_endian=big_endian,
                subsampling=(across, down),
                strips=[compress(content)],
            )
            yield Drawn(f"YCbCr {across} x {down}, {compression}, {'MM' if big_endian else 'II'}", data, pixels, 2.0)


def jpegs() -> Iterator[Drawn]:
    kinds = {
        "grey": (1, ((1, 1),), b"\1", b""),
        "RGB": (2, ((1, 1),) * 3, b"\1\2\3", jpeg_writer.adobe(0)),
        "RGB without a marker": (2, ((1, 1),) * 3, b"\1\2\3", b""),
        "YCbCr 1 x 1": (6, ((1, 1),) * 3, b"\1\2\3", b""),
        "YCbCr 2 x 1": (6, ((2, 1), (1, 1), (1, 1)), b"\1\2\3", b""),
        "YCbCr 2 x 2": (6, ((2, 2), (1, 1), (1, 1)), b"\1\2\3", b""),
        "CMYK": (5, ((1, 1),) * 4, b"\1\2\3\4", b""),
    }
    height, width = SIZE
    for kind, (photometric, sampling, ids, head) in kinds.items():
        components = jpeg_writer.drawn(width, height, sampling)
        planes = [jpeg_writer.upsampled(one, width, height, sampling) for one in components]
        values = np.stack(planes, -1)
        pixels = {1: rgb, 2: lambda each: each, 5: of_ink, 6: jpeg_writer.rgb_of_ycc}[photometric](values)
        for coding, big_endian in product(("baseline", "baseline, own tables", "progressive"), (False, True)):
            file = jpeg_writer.jpeg(components, width, height, coding=coding, ids=ids, head=head)
            data = write.tiff(
                values.astype(int),
                8,
                photometric,
                compression="jpeg",
                big_endian=big_endian,
                subsampling=sampling[0] if photometric == 6 else None,
                strips=[file],
            )
            yield Drawn(f"{kind}, JPEG, {coding}, {'MM' if big_endian else 'II'}", data, pixels, 3.0)


DRAWN = [*arranged(), *unusual(), *ycbcr(), *jpegs()]

REFUSED = (
    r"RGB 16, planar 2, none",
    r"YCbCr (?!1 x 1).*, none",
    r"(grey 12|RGB 16|RGB 8 and alpha|CMYK 8), .*, the lowest bit first",
    r"RGB 8, planar 2, none, the lowest bit first",
    r"palette 4, .*, none, the lowest bit first",
)
"""Kinds that Pillow cannot read, or gives wrong pixels for."""


def refused(drawn: Drawn) -> bool:
    return any(re.match(name, drawn.name) for name in REFUSED)


def test_so_many_files_are_drawn() -> None:
    assert (len(DRAWN), sum(map(refused, DRAWN))) == (1674, 50)


GROUPS = sorted({drawn.name.split(",")[0] for drawn in DRAWN})


@pytest.mark.parametrize("group", GROUPS)
def test_pixels_are_right_or_the_file_is_refused_by_name(group: str) -> None:
    members = [drawn for drawn in DRAWN if drawn.name.split(",")[0] == group]
    for drawn in members:
        if refused(drawn):
            with pytest.raises(PictureError, match=r"TIFF.* is not supported: save it as"):
                found(drawn.data)
        else:
            assert np.abs(found(drawn.data) - drawn.pixels).max() <= drawn.tolerance, drawn.name


PLAIN = {
    drawn.name.split(", planar")[0]: drawn for drawn in DRAWN if drawn.name.endswith(" planar 1, none, one strip, II")
}

WRITTEN_AGAIN = (
    "-c none",
    "-c none -p separate",
    "-c none -B",
    "-c none -B -8",
    "-c none -f lsb2msb",
    "-c packbits -r 3",
    "-c lzw -t -w 16 -l 16",
    "-c lzw:2 -B",
    "-c zip -p separate -8",
    "-c zip:2 -t -w 32 -l 16",
    "-c lzma",
    "-c zstd",
    "-c g3:2d",
    "-c g4 -B",
)
"""Options of tiffcp: compression, planes, byte order, BigTIFF, order of bits, strips and tiles."""

REFUSED_AGAIN = {
    ("RGB 16", "-c none -p separate"),
    ("palette 4", "-c none -f lsb2msb"),
    *((kind, "-c none -f lsb2msb") for kind in ("grey 12", "RGB 16", "RGB 8 and alpha", "CMYK 8")),
}


@needs("tiffcp", "libtiff-tools")
@pytest.mark.parametrize("kind", PLAIN)
def test_files_that_tiffcp_wrote_again_have_the_same_pixels(kind: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source.tif", tmp_path / "target.tif"
    source.write_bytes(PLAIN[kind].data)
    right = 0
    for options in WRITTEN_AGAIN:
        done = subprocess.run(["tiffcp", *options.split(), source, target], capture_output=True, check=False)
        if done.returncode:
            continue  # this kind cannot be compressed so
        if (kind, options) in REFUSED_AGAIN:
            with pytest.raises(PictureError, match=r"TIFF.* is not supported: save it as"):
                found(target.read_bytes())
            continue
        assert np.abs(found(target.read_bytes()) - PLAIN[kind].pixels).max() <= PLAIN[kind].tolerance, options
        right += 1
    assert right >= 7


@needs("tiff2rgba", "libtiff-tools")
@pytest.mark.parametrize("sampling", ["1 x 1", "2 x 1", "1 x 2", "2 x 2", "4 x 1", "4 x 2"])
def test_tiff2rgba_agrees_about_ycbcr(sampling: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source.tif", tmp_path / "target.tif"
    drawn = next(drawn for drawn in DRAWN if drawn.name == f"YCbCr {sampling}, none, II")
    source.write_bytes(drawn.data)
    subprocess.run(["tiff2rgba", "-c", "none", source, target], check=True, capture_output=True)
    assert np.abs(found(target.read_bytes()) - drawn.pixels).max() <= drawn.tolerance


@needs_imagemagick
@pytest.mark.parametrize(
    "drawn",
    [*PLAIN.values(), *(drawn for drawn in DRAWN if drawn.name.endswith("JPEG, progressive, II"))],
    ids=lambda drawn: drawn.name,
)
def test_imagemagick_agrees_about_what_was_drawn(drawn: Drawn, tmp_path: Path) -> None:
    assert np.abs(imagemagick(drawn.data, "tif", drawn.pixels.shape, tmp_path) - drawn.pixels).max() <= drawn.tolerance


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_faxes_have_the_right_pixels(compression: str) -> None:
    black = samples(1, 1, *SIZE)[:, :, 0].astype(bool)
    stream = io.BytesIO()
    Image.fromarray(black).save(stream, "TIFF", compression=compression)
    np.testing.assert_array_equal(found(stream.getvalue()), rgb(black[:, :, None] * WHITE))


@pytest.mark.parametrize("tag", [37724, 258], ids=["layers of Photoshop", "bits"])
def test_the_values_of_a_large_tag_take_no_memory(tag: int) -> None:
    layers = bytes(4_000_000)
    stream = io.BytesIO()
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[37724] = layers
    directory.tagtype[37724] = TiffTags.BYTE
    image = Image.fromarray(np.full((9, 12), 200, np.uint8))
    image.save(stream, "TIFF", tiffinfo=directory)
    data = stream.getvalue()
    entry = struct.pack("<HHI", 37724, TiffTags.BYTE, len(layers))
    assert data.count(entry) == 1
    data = data.replace(entry, struct.pack("<HHI", tag, TiffTags.BYTE, len(layers)))
    tracemalloc.start()
    try:
        to_pixels(data, Spec(("a", "b"), 9, 12, "grey", "squash", "bilinear", 0, 1.0))
    except PictureError:
        assert tag == 258
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(layers)  # Pillow copies them


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the directory
def test_a_damaged_directory_is_a_picture_error_or_none() -> None:
    data = next(drawn.data for drawn in DRAWN if drawn.name == "grey 12, planar 1, none, one strip, MM")
    start = int.from_bytes(data[4:8])
    spec = Spec(("a", "b"), 4, 4, "rgb", "squash", "bilinear", 0, 1.0)
    damaged = [data[:at] + b"\xff" + data[at + 1 :] for at in range(start, len(data))]
    refused = 0
    for one in [*damaged, *(data[:size] for size in range(4, len(data), 5))]:
        try:
            to_pixels(one, spec)
        except PictureError:
            refused += 1
    assert refused > len(data) // 5
