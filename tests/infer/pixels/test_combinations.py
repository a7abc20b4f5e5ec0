"""Every TIFF, PNG, BMP and GIF that this file can draw has the right pixels, or is refused by name.

Of 594 files 566 have the right pixels, and 28 are refused. Pillow alone, with its usual conversions, gives wrong pixels
for 80 of them without an error, and fails for 165.

The right pixels follow from the samples by the formats' definitions. Where ImageMagick is installed, it must agree.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import picture_writers as write
import pytest
from cnn_infer import PictureError
from drawn_pictures import HEIGHT, RNG, WHITE, WIDTH, Drawn, found, in_bytes, of_ink, on_white, rgb, samples
from independent_decoders import imagemagick, needs_imagemagick
from PIL import Image


def tiffs() -> Iterator[Drawn]:
    layouts = list(product(("none", "deflate", "packbits"), (False, True), (False, True)))
    for compression, big_endian, big in layouts:
        layout = {"compression": compression, "big_endian": big_endian, "big": big}
        tail = f"{compression}, {'MM' if big_endian else 'II'}{', BigTIFF' if big else ''}"
        for photometric, bits in product((0, 1), (1, 2, 4, 8, 12, 16)):
            values = samples(bits, 1)
            grey = in_bytes(values, bits)
            data = write.tiff(values, bits, photometric, **layout)
            name = f"TIFF grey {bits}, {'white' if photometric == 0 else 'black'} is zero, {tail}"
            yield Drawn(name, data, rgb(WHITE - grey if photometric == 0 else grey))
        for bits, wide in product((1, 2, 4, 8), (False, True)):
            values = samples(bits, 1)
            colours = RNG.integers(0, 256, (3, 1 << bits))
            stored = colours * 257 if wide else colours
            data = write.tiff(values, bits, 3, colour_map=stored, **layout)
            name = f"TIFF palette {bits}, map of {16 if wide else 8} bits, {tail}"
            yield Drawn(name, data, colours.T[values[:, :, 0]].astype(float))
        for bits, planar in product((8, 16), (1, 2)):
            values = samples(bits, 3)
            data = write.tiff(values, bits, 2, planar=planar, **layout)
            yield Drawn(f"TIFF RGB {bits}, planar {planar}, {tail}", data, in_bytes(values, bits))
            for extra in (0, 1, 2):
                values = samples(bits, 4)
                if extra == 1:  # premultiplied: no colour exceeds its alpha
                    values[:, :, :3] = np.minimum(values[:, :, :3], values[:, :, 3:])
                data = write.tiff(values, bits, 2, planar=planar, extra=extra, **layout)
                colours, alpha = np.split(in_bytes(values, bits), [3], axis=2)
                shown = (colours, colours + WHITE - alpha, on_white(colours, alpha))[extra]
                yield Drawn(f"TIFF RGB {bits}, extra {extra}, planar {planar}, {tail}", data, shown, 3.0)
            values = samples(bits, 4)
            data = write.tiff(values, bits, 5, planar=planar, **layout)
            shown = of_ink(in_bytes(values, bits))
            yield Drawn(f"TIFF CMYK {bits}, planar {planar}, {tail}", data, shown, 3.0)
        for extra in (0, 1, 2):
            values = samples(8, 2)
            if extra == 1:
                values[:, :, :1] = np.minimum(values[:, :, :1], values[:, :, 1:])
            grey, alpha = np.split(in_bytes(values, 8), 2, axis=2)
            shown = (grey, grey + WHITE - alpha, on_white(grey, alpha))[extra]
            data = write.tiff(values, 8, 1, extra=extra, **layout)
            yield Drawn(f"TIFF grey 8, extra {extra}, {tail}", data, rgb(shown), 2.0)


def pngs() -> Iterator[Drawn]:
    for interlaced in (False, True):
        tail = ", interlaced" if interlaced else ""
        for bits in (1, 2, 4, 8, 16):
            values = samples(bits, 1)
            grey = in_bytes(values, bits)
            data = write.png(values, bits, 0, interlaced=interlaced)
            yield Drawn(f"PNG grey {bits}{tail}", data, rgb(grey))
            key = int(values[1, 0, 0])
            near = values.copy()
            near[5] = max(0, key - 1)  # at 16 bits the same high byte as the transparent value
            data = write.png(near, bits, 0, transparency=struct.pack(">H", key), interlaced=interlaced)
            yield Drawn(f"PNG grey {bits}, tRNS{tail}", data, rgb(np.where(near == key, WHITE, in_bytes(near, bits))))
        for bits in (1, 2, 4, 8):
            values = samples(bits, 1)
            palette = RNG.integers(0, 256, (1 << bits, 3))
            data = write.png(values, bits, 3, palette=palette, interlaced=interlaced)
            colours = palette[values[:, :, 0]].astype(float)
            yield Drawn(f"PNG palette {bits}{tail}", data, colours)
            alpha = RNG.integers(0, 256, max(1, (1 << bits) - 1))  # the last entry is opaque without a byte of its own
            data = write.png(
                values, bits, 3, palette=palette, transparency=alpha.astype("u1").tobytes(), interlaced=interlaced
            )
            opaque = np.append(alpha, [255] * ((1 << bits) - len(alpha)))
            shown = on_white(colours, opaque[values].astype(float))
            yield Drawn(f"PNG palette {bits}, tRNS{tail}", data, shown)
        for bits in (8, 16):
            values = samples(bits, 3)
            data = write.png(values, bits, 2, interlaced=interlaced)
            yield Drawn(f"PNG RGB {bits}{tail}", data, in_bytes(values, bits))
            key = values[1, 0]
            near = values.copy()
            near[5] = key - np.array([0, 0, 1])
            data = write.png(near, bits, 2, transparency=struct.pack(">3H", *key), interlaced=interlaced)
            hidden = (near == key).all(axis=2, keepdims=True)
            yield Drawn(f"PNG RGB {bits}, tRNS{tail}", data, np.where(hidden, WHITE, in_bytes(near, bits)))
            for colour_type, count in ((4, 2), (6, 4)):
                values = samples(bits, count)
                colours, alpha = np.split(in_bytes(values, bits), [count - 1], axis=2)
                shown = on_white(colours, alpha)
                data = write.png(values, bits, colour_type, interlaced=interlaced)
                kind = "grey" if count == 2 else "RGB"
                yield Drawn(f"PNG {kind} {bits} and alpha{tail}", data, rgb(shown) if count == 2 else shown, 2.0)


def bmps() -> Iterator[Drawn]:
    for top_down in (False, True):
        tail = ", top down" if top_down else ""
        for bits in (1, 4, 8):
            values = samples(bits, 1)
            palette = RNG.integers(0, 256, (1 << bits, 3))
            data = write.bmp(values, bits, palette=palette, top_down=top_down)
            yield Drawn(f"BMP palette {bits}{tail}", data, palette[values[:, :, 0]].astype(float))
        values = samples(8, 3)
        yield Drawn(f"BMP 24{tail}", write.bmp(values, 24, top_down=top_down), values.astype(float))
        yield Drawn(f"BMP 32{tail}", write.bmp(values, 32, top_down=top_down), values.astype(float))
        five = samples(5, 3)
        yield Drawn(f"BMP 555{tail}", write.bmp(five, 16, top_down=top_down), in_bytes(five, 5), 4.0)
        six = five.copy()
        six[:, :, 1] = samples(6, 1)[:, :, 0]
        shown = np.dstack([in_bytes(six[:, :, 0], 5), in_bytes(six[:, :, 1], 6), in_bytes(six[:, :, 2], 5)])
        masks = (0xF800, 0x7E0, 0x1F)
        yield Drawn(f"BMP 565{tail}", write.bmp(six, 16, masks=masks, top_down=top_down), shown, 4.0)
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        values = samples(8, 4)
        shown = on_white(values[:, :, :3].astype(float), values[:, :, 3:].astype(float))
        yield Drawn(f"BMP 32 and alpha{tail}", write.bmp(values, 32, masks=masks, top_down=top_down), shown, 2.0)
        values[:, :, 3] = 0
        data = write.bmp(values, 32, masks=masks, top_down=top_down)
        yield Drawn(f"BMP 32, alpha all zero{tail}", data, values[:, :, :3].astype(float))


def gifs() -> Iterator[Drawn]:
    for transparent, smaller, interlaced in product((False, True), repeat=3):
        image = Image.fromarray(RNG.integers(0, 4, (HEIGHT, WIDTH), np.uint8), "P")
        palette = RNG.integers(0, 256, (4, 3))
        image.putpalette(palette.astype("u1").tobytes())
        stream = io.BytesIO()
        image.save(stream, "GIF", interlace=int(interlaced), **({"transparency": 2} if transparent else {}))
        data = bytearray(stream.getvalue())
        colours = palette[np.asarray(image)].astype(float)
        if transparent:
            colours[np.asarray(image) == 2] = WHITE
        if smaller:
            data[6:10] = struct.pack("<HH", WIDTH + 4, HEIGHT + 3)
            colours = np.pad(colours, ((0, 3), (0, 4), (0, 0)), constant_values=WHITE)
        marks = {"transparent": transparent, "frame smaller than its screen": smaller, "interlaced": interlaced}
        name = ", ".join(["GIF", *(mark for mark, present in marks.items() if present)])
        yield Drawn(name, bytes(data), colours)


DRAWN = [*tiffs(), *pngs(), *bmps(), *gifs()]

REFUSED = (
    r"TIFF (RGB|CMYK) 16, .*planar 2, none",
    r"TIFF RGB 8, extra [01], planar 2, none",
)
"""Kinds that Pillow cannot read, or gives wrong pixels for."""


def refused(drawn: Drawn) -> bool:
    return any(re.match(name, drawn.name) for name in REFUSED)


def test_so_many_files_are_drawn() -> None:
    assert (len(DRAWN), sum(map(refused, DRAWN))) == (594, 28)


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.name)
def test_pixels_are_right_or_the_file_is_refused_by_name(drawn: Drawn) -> None:
    if refused(drawn):
        with pytest.raises(PictureError, match=r"TIFF.* is not supported: save it as"):
            found(drawn.data)
        return
    assert np.abs(found(drawn.data) - drawn.pixels).max() <= drawn.tolerance


OTHERWISE_READ = (
    r"TIFF grey (2|4|12), white is zero",
    r"TIFF .*extra 0",
    r"BMP .*alpha all zero",
    r"GIF, frame smaller",
)
"""ImageMagick 6 does not invert these depths, treats a sample of no stated meaning, and zeros, as alpha, and paints the
free part of a screen black, where browsers leave it transparent."""

ONE_LAYOUT = [
    drawn
    for drawn in DRAWN
    if ("TIFF" not in drawn.name or drawn.name.endswith("none, II"))
    and not any(re.match(name, drawn.name) for name in OTHERWISE_READ)
]


@needs_imagemagick
@pytest.mark.parametrize("drawn", ONE_LAYOUT, ids=lambda drawn: drawn.name)
def test_an_independent_decoder_agrees_about_what_was_drawn(drawn: Drawn, tmp_path: Path) -> None:
    kind = drawn.name.split()[0].strip(",").lower()
    assert np.abs(imagemagick(drawn.data, kind, drawn.pixels.shape, tmp_path) - drawn.pixels).max() <= drawn.tolerance
