"""Writers of TIFF, PNG and BMP files for tests: every depth and layout, from samples that the test knows.

They are independent of Pillow, which writes few of these kinds. Samples are arrays (height, width, samples).
"""

from __future__ import annotations

import lzma
import struct
import zlib
from itertools import product

import numpy as np
from numpy.typing import NDArray


def packed(samples: NDArray[np.integer], bits: int, big_endian: bool) -> list[bytes]:
    """One bytes object a row; fewer than 8 bits, and 12, are packed from the highest bit on, rows start at a byte."""
    rows = samples.reshape(len(samples), -1)
    if bits in (8, 16):
        kind = {8: "u1", 16: ">u2" if big_endian else "<u2"}[bits]
        return [row.astype(kind).tobytes() for row in rows]
    places = np.arange(bits)[::-1]
    return [np.packbits((row[:, None] >> places) & 1).tobytes() for row in rows]


def _packbits(data: bytes) -> bytes:
    """Apple's run lengths, literal runs only: any reader must take them."""
    blocks = (data[at : at + 128] for at in range(0, len(data), 128))
    return b"".join(bytes([len(block) - 1]) + block for block in blocks)


def _lzw(data: bytes) -> bytes:
    """TIFF 6.0, section 13: codes of 9 to 12 bits, the highest bit first."""
    clear, end = 256, 257
    fresh = {bytes([value]): value for value in range(clear)}
    codes, table, width, known = [f"{clear:09b}"], {**fresh}, 9, b""
    for value in data:
        longer = known + bytes([value])
        if longer in table:
            known = longer
            continue
        codes.append(f"{table[known]:0{width}b}")
        table[longer] = len(table) + 2
        known = longer[-1:]
        width += len(table) + 2 > (1 << width) - 1
        if len(table) + 2 == 4094:
            codes.append(f"{clear:012b}")
            table, width = {**fresh}, 9
    text = "".join(codes) + (f"{table[known]:0{width}b}" if known else "") + f"{end:0{width}b}"
    text += "0" * (-len(text) % 8)
    return int("1" + text, 2).to_bytes(len(text) // 8 + 1)[1:]


def _differences(samples: NDArray[np.integer], bits: int) -> NDArray[np.integer]:
    """Each sample less the one before it in its row and channel (TIFF 6.0, section 14)."""
    return np.diff(samples, axis=1, prepend=0) % (1 << bits)


REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""Each byte with its bits in the other order."""

COMPRESSIONS = {
    "none": (1, bytes),
    "lzw": (5, _lzw),
    "deflate": (8, zlib.compress),
    "packbits": (32773, _packbits),
    "old deflate": (32946, zlib.compress),
    "lzma": (34925, lzma.compress),
}


def _cut(plane: NDArray[np.integer], rows: int | None, tile: tuple[int, int] | None) -> list[NDArray[np.integer]]:
    """Strips of some rows; or tiles, filled up with copies of the last row and column."""
    if tile is None:
        step = rows or len(plane)
        return [plane[start : start + step] for start in range(0, len(plane), step)]
    down, across = tile
    height, width, _ = plane.shape
    whole = np.pad(plane, ((0, -height % down), (0, -width % across), (0, 0)), "edge")
    places = product(range(0, height, down), range(0, width, across))
    return [whole[top : top + down, left : left + across] for top, left in places]


def tiff(
    samples: NDArray[np.integer],
    bits: int,
    photometric: int,
    *,
    colour_map: NDArray[np.integer] | None = None,
    extra: int | None = None,
    planar: int = 1,
    compression: str = "none",
    big_endian: bool = False,
    big: bool = False,
    sample_format: int = 1,
    orientation: int = 1,
    predictor: bool = False,
    rows: int | None = None,
    tile: tuple[int, int] | None = None,
    fill_order: int = 1,
    subsampling: tuple[int, int] | None = None,
    strips: list[bytes] | None = None,
) -> bytes:
    """A TIFF file.

    Args:
        samples: unsigned (height, width, samples).
        bits: Bits a sample.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr.
        colour_map: (3, 2 ** bits), for a palette.
        extra: Meaning of the last sample: 0 unspecified, 1 premultiplied alpha, 2 alpha; None where it is a colour.
        planar: 1 for samples side by side, 2 for a plane each.
        compression: Out of :data:`COMPRESSIONS`.
        big_endian: Byte order.
        big: BigTIFF.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        orientation: 1 to 8.
        predictor: Whether differences are compressed.
        rows: Rows of a strip; None for all.
        tile: Height and width of the tiles; None for strips.
        fill_order: 2 for the lowest bit first.
        subsampling: Horizontal and vertical factors of YCbCr.
        strips: The content of the strips, if it is not that of ``samples``; with compression ``jpeg``, JPEG files.
    """
    height, width, count = samples.shape
    number, compress = COMPRESSIONS.get(compression, (7, bytes))
    planes = [samples] if planar == 1 else [samples[:, :, place : place + 1] for place in range(count)]
    if strips is None:
        parts = [part for plane in planes for part in _cut(plane, rows, tile)]
        parts = [_differences(part, bits) for part in parts] if predictor else parts
        contents = [b"".join(packed(part, bits, big_endian)) for part in parts]
        strips = [compress(content) for content in contents]
    if fill_order == 2:
        strips = [strip.translate(REVERSED) for strip in strips]
    order = ">" if big_endian else "<"
    offset = 16 if big else 8
    places = []
    for strip in strips:
        places.append(offset)
        offset += len(strip) + len(strip) % 2
    short, long = 3, 4
    entries: list[tuple[int, int, list[int]]] = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [bits] * count),
        (259, short, [number]),
        (262, short, [photometric]),
        (266, short, [fill_order]),
        (273 if tile is None else 324, long, places),
        (274, short, [orientation]),
        (277, short, [count]),
        (279 if tile is None else 325, long, [len(strip) for strip in strips]),
        (284, short, [planar]),
        (339, short, [sample_format] * count),
    ]
    if tile is None:
        entries.append((278, long, [rows or height]))
    else:
        entries += [(322, long, [tile[1]]), (323, long, [tile[0]])]
    if predictor:
        entries.append((317, short, [2]))
    if subsampling is not None:
        entries.append((530, short, [*subsampling]))
    if colour_map is not None:
        entries.append((320, short, colour_map.ravel().tolist()))
    if extra is not None:
        entries.append((338, short, [extra]))
    entries.sort()
    body = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    entry_size, inline, counter = (20, 8, "Q") if big else (12, 4, "I")
    start = offset + (8 if big else 2) + entry_size * len(entries) + (8 if big else 4)
    table, overflow = b"", b""
    for tag, kind, values in entries:
        content = struct.pack(f"{order}{len(values)}{'H' if kind == short else 'I'}", *values)
        head = struct.pack(f"{order}HH{counter}", tag, kind, len(values))
        if len(content) <= inline:
            table += head + content.ljust(inline, b"\0")
        else:
            table += head + struct.pack(f"{order}{counter}", start + len(overflow))
            overflow += content + b"\0" * (len(content) % 2)
    mark = b"MM" if big_endian else b"II"
    header = (
        mark + struct.pack(f"{order}HHHQ", 43, 8, 0, offset) if big else mark + struct.pack(f"{order}HI", 42, offset)
    )
    numbers = struct.pack(f"{order}Q" if big else f"{order}H", len(entries))
    return header + body + numbers + table + bytes(8 if big else 4) + overflow


def ycc_units(samples: NDArray[np.integer], across: int, down: int) -> bytes:
    """YCbCr without compression: the luma of a rectangle, then its two colours (TIFF 6.0, section 21)."""
    height, width, _ = samples.shape
    corners = product(range(0, height, down), range(0, width, across))
    whole = np.pad(samples, ((0, -height % down), (0, -width % across), (0, 0)), "edge")
    units = (whole[top : top + down, left : left + across] for top, left in corners)
    return b"".join(unit[:, :, 0].astype("u1").tobytes() + unit[0, 0, 1:].astype("u1").tobytes() for unit in units)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, steps of both."""


def png(
    samples: NDArray[np.integer],
    bits: int,
    colour_type: int,
    *,
    palette: NDArray[np.integer] | None = None,
    transparency: bytes | None = None,
    interlaced: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """A PNG file.

    Args:
        samples: unsigned (height, width, samples).
        bits: Bits a sample.
        colour_type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha.
        palette: (entries, 3).
        transparency: Content of tRNS.
        interlaced: Adam7.
        before: Chunks in front of the pixels.
        behind: Chunks behind them.
    """
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [samples[top::down, left::across] for top, left, down, across in passes]
    rows = b"".join(b"\0" + row for part in parts if part.size for row in packed(part, bits, True))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced)))
        + (chunk(b"PLTE", palette.astype("u1").tobytes()) if palette is not None else b"")
        + (chunk(b"tRNS", transparency) if transparency is not None else b"")
        + before
        + chunk(b"IDAT", zlib.compress(rows))
        + behind
        + chunk(b"IEND", b"")
    )


def bmp(
    samples: NDArray[np.integer],
    bits: int,
    *,
    palette: NDArray[np.integer] | None = None,
    masks: tuple[int, ...] | None = None,
    top_down: bool = False,
) -> bytes:
    """A Windows bitmap.

    Args:
        samples: unsigned (height, width, samples): palette indices, or red, green, blue and perhaps alpha, each
            already of the width of its mask.
        bits: Bits a pixel: 1, 4, 8, 16, 24 or 32.
        palette: (entries, 3).
        masks: Of red, green, blue and alpha in a pixel of 16 or 32 bits; None for the usual ones.
        top_down: Whether the first row is the top one.
    """
    height, width, _ = samples.shape
    if bits <= 8:
        rows = packed(samples, bits, True)
    elif bits == 24:
        rows = packed(samples[:, :, ::-1], 8, True)
    else:
        usual = (0x7C00, 0x3E0, 0x1F) if bits == 16 else (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        fields = (masks or usual)[: samples.shape[2]]
        shifts = [(mask & -mask).bit_length() - 1 for mask in fields]
        pixels = sum(samples[:, :, place].astype("u4") << shift for place, shift in enumerate(shifts))
        rows = [row.astype("<u2" if bits == 16 else "<u4").tobytes() for row in pixels]
    rows = [row + bytes(-len(row) % 4) for row in rows]
    body = b"".join(rows if top_down else rows[::-1])
    colours = b"" if palette is None else np.c_[palette[:, ::-1], np.zeros(len(palette))].astype("u1").tobytes()
    fields = struct.pack("<4I", *(*masks, 0)[:4]) if masks is not None else b""
    size = 108 if masks is not None else 40
    rest = fields + bytes(size - 40 - len(fields))
    offset = 14 + size + len(colours)
    info = struct.pack(
        "<IiiHHIIiiII",
        size,
        width,
        -height if top_down else height,
        1,
        bits,
        3 if masks is not None else 0,
        len(body),
        2835,
        2835,
        len(palette) if palette is not None else 0,
        0,
    )
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + rest + colours + body
