"""The first directory of a TIFF file, and its replacement by one that Pillow can read.

(TIFF, revision 6.0, 1992; BigTIFF as libtiff defines it.) The pixels stay where they are in the file.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from cnn_infer.errors import PictureError

BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR, COLOUR_MAP = 258, 259, 262, 266, 277, 284, 320
EXTRA, SAMPLE_FORMAT, SUBSAMPLING = 338, 339, 530

_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
"""Format characters of :mod:`struct` for the types of integers and of bytes."""

_SHORT, _LONG, _BYTES = 3, 4, 7
_JPEG_TABLES = 347

_KEPT = frozenset({BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANAR, COLOUR_MAP, EXTRA, SAMPLE_FORMAT})
_KEPT |= {SUBSAMPLING, _JPEG_TABLES, 256, 257, 273, 274, 278, 279, 317, 322, 323, 324, 325}
"""Tags that decoding needs: besides those above size, strips, orientation, predictor and tiles."""

_MOST_ENTRIES = 65_535

_MOST_VALUES = 1 << 20
"""Tags with more values are damaged: strips and tiles are far fewer. Each value takes dozens of bytes of memory."""

Directory = dict[int, tuple[int, ...]]
"""Values by tag."""


def read_directory(data: bytes) -> Directory:
    """Return the integers and bytes in the first directory of a TIFF or BigTIFF file that decoding needs.

    Values of other types are left out, and so are those that lie outside of a damaged file.
    """
    order = ">" if data.startswith(b"MM") else "<"
    big = b"+" in data[2:4]
    entry, inline, wide, short = (20, 8, "Q", "Q") if big else (12, 4, "I", "H")
    found: Directory = {}
    with suppress(struct.error):
        [start] = struct.unpack_from(order + wide, data, 8 if big else 4)
        [count] = struct.unpack_from(order + short, data, start)
        start += struct.calcsize(order + short)
        for at in range(start, start + entry * min(count, _MOST_ENTRIES), entry):
            tag, kind, number = struct.unpack_from(f"{order}HH{wide}", data, at)
            if tag not in _KEPT or number > _MOST_VALUES:  # private tags hold layers and texts of any size
                continue
            with suppress(struct.error, KeyError):
                layout = f"{order}{number}{_CODES[kind]}"
                place = at + entry - inline
                if struct.calcsize(layout) > inline:
                    [place] = struct.unpack_from(order + wide, data, place)
                found[tag] = struct.unpack_from(layout, data, place)
    return found


def with_directory(data: bytes, directory: Directory, *, big_endian: bool) -> bytes:
    """Return the file as a classic TIFF file whose first directory is ``directory``, without what decoding ignores.

    Args:
        data: The file.
        directory: Values by tag, as from :func:`read_directory`.
        big_endian: Byte order of the directory, and of samples of 16 bits.

    Raises:
        PictureError: a value needs more than 32 bits.
    """
    order, mark = (">", b"MM") if big_endian else ("<", b"II")
    start = len(data) + len(data) % 2
    end = start + 2 + 12 * len(directory) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(directory.items()):
        kind = _BYTES if tag == _JPEG_TABLES else _SHORT if max(numbers, default=0) < 1 << 16 else _LONG
        try:
            content = struct.pack(f"{order}{len(numbers)}{_CODES[kind]}", *numbers)
        except struct.error as error:
            raise PictureError(f"damaged or unsupported picture: tag {tag} of the TIFF file: {error}") from error
        entries += struct.pack(f"{order}HHI", tag, kind, len(numbers))
        entries += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(f"{order}I", end + len(values))
        values += b"" if len(content) <= 4 else content + bytes(len(content) % 2)
    header = mark + struct.pack(f"{order}HI", 42, start)
    count = struct.pack(f"{order}H", len(directory))
    return b"".join([header, data[8:], bytes(len(data) % 2), count, entries, bytes(4), values])
