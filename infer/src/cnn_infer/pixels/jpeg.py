"""Decode JPEG files with libjpeg-turbo directly, to the same pixels that Pillow gives.

On small files it is much faster: Pillow's Python code for each file takes seven times as long as decoding 32 x 32
pixels, and it blocks the other threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import simplejpeg

from cnn_infer.errors import PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnn_infer.spec import Colour

MAGIC = b"\xff\xd8\xff"
"""The first bytes of a JPEG file."""

_END = b"\xff\xd9"
"""The end-of-image marker."""

_SEGMENT = re.compile(rb"\xff[\x02-\xcf\xd9-\xfe]")
"""A marker with a length behind it, or the end of the image: not a stuffed, a fill or a restart byte."""

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

_SCAN = re.compile(rb"\xff\xda")
"""A start-of-scan marker. ``re`` finds it in half the time of ``bytes.count``."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: size, precision and components (ITU-T T.81, table B.1)."""

_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})

_SEQUENTIAL = frozenset({0xC0, 0xC1})
"""Frames with Huffman coding whose scans are not refined by later ones."""

_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Segments that may stand before the first scan: tables, the restart interval, comments and application data."""

MAX_SCANS = 500
"""Most scans of a file. Encoders write about 10; each takes the decoder once through all coefficients."""

MAX_SEGMENTS = 10_000
"""Most segments of a file whose scans must be counted one by one."""

_MAX_HEAD_SEGMENTS = 200
"""Most segments before the first scan; a colour profile or a thumbnail may take a hundred."""

_COLOURS: dict[str, Colour] = {"Gray": "grey", "YCbCr": "rgb", "RGB": "rgb"}  # Pillow decodes CMYK and YCCK
_BLOCK = 8
"""Side of a block of the discrete cosine transform, in pixels."""


class JpegHeader(NamedTuple):
    """Size and colour of a JPEG file as stored, before the EXIF orientation is applied.

    Attributes:
        width: In pixels.
        height: In pixels.
        colour: ``grey`` or ``rgb``.
        may_have_exif: Whether the bytes with which EXIF data start are in the file. They may be pixels by chance.
    """

    width: int
    height: int
    colour: Colour
    may_have_exif: bool


class _Head(NamedTuple):
    """The part of a JPEG file before the pixels.

    Attributes:
        end: The place of the first scan's pixels; None if this must be searched for in the whole file.
        is_only_scan: Whether the file can only have one scan.
    """

    end: int | None
    is_only_scan: bool


def read_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG file; None if Pillow must decode the file: it is damaged, CMYK or YCCK.

    Raises:
        PictureError: the file has too many scans, or no decoder supports its kind.
    """
    head = _head(data)
    if not head.is_only_scan:
        _check_scans(data)
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # KeyError: a sampling that simplejpeg has no name for
        _check_frame(data)
        return None
    if space not in _COLOURS:
        return None
    return JpegHeader(width, height, _COLOURS[space], b"Exif\0\0" in data[: head.end])


def decode(data: bytes, header: JpegHeader, divisor: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG file, reduced by ``divisor``.

    Args:
        data: The bytes of the file.
        header: The file's header, from :func:`read_header`.
        divisor: 1, or one of :func:`divisors` of the stored size.

    Returns:
        uint8, shape (height, width, 3) RGB or (height, width) grey; the sides are divided by ``divisor`` and rounded
        up. None if libjpeg-turbo reports an error or a warning, such as a truncated file: Pillow decides then.

    Raises:
        PictureError: no decoder supports the kind of the file.
    """
    grey = header.colour == "grey"
    width, height = -(-header.width // divisor), -(-header.height // divisor)
    try:
        found = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", min_width=width, min_height=height)
    except ValueError:
        _check_frame(data)
        return None
    pixels: NDArray[np.uint8] = found
    return pixels[:, :, 0] if grey else pixels


def with_end(data: bytes) -> bytes:
    """Return ``data`` with an end marker if only that is missing; otherwise return ``data`` itself.

    Other viewers show such files completely. A file that lacks pixels too is returned unchanged, and is refused later.
    """
    if data.endswith(_END) or not _has_all_scans(data):
        return data
    ended = data + _END
    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(ended)
        simplejpeg.decode_jpeg(ended, "GRAY" if space == "Gray" else "CMYK" if space in ("CMYK", "YCCK") else "RGB")
    except (ValueError, KeyError):  # libjpeg-turbo warns about missing pixels
        return data
    return ended


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans give every coefficient of every component to the last bit (ITU-T T.81, annex G)."""
    missing: dict[int, int] = {}  # by component and coefficient: low bits that are still to come
    components: list[int] = []
    for marker, segment in _segments(data):
        if marker in _FRAMES:
            components = list(segment[6::3])
        elif marker == _START_OF_SCAN and segment and len(segment) >= 4 + 2 * segment[0]:
            first, last, approximation = segment[-3:]
            for component in segment[1:-3:2]:
                missing |= {component << 8 | place: approximation & 15 for place in range(first, min(last, 63) + 1)}
    wanted = {component << 8 | place for component in components for place in range(64)}
    return bool(wanted) and all(missing.get(one) == 0 for one in wanted)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment up to the end marker, which is left out.

    Raises:
        PictureError: there are more than :data:`MAX_SEGMENTS`.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        found = _SEGMENT.search(data, at)
        if found is None or data[found.start() + 1] == _END_OF_IMAGE or found.end() + 2 > len(data):
            return
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
        yield data[found.start() + 1], data[found.end() + 2 : at]
    raise PictureError(f"the JPEG file has more than {MAX_SEGMENTS:,} segments")


def _head(data: bytes) -> _Head:
    """Read the segments before the pixels, as libjpeg and Pillow do.

    Searching a whole file for a few bytes takes a tenth of the time of decoding it, and blocks the other threads.
    """
    at, components = 2, 0
    try:
        for _ in range(_MAX_HEAD_SEGMENTS):
            escape, marker = data[at], data[at + 1]
            length = data[at + 2] << 8 | data[at + 3]
            if escape != 0xFF or length < 2:
                break
            if marker == _START_OF_SCAN:
                # after a sequential scan of all components, libjpeg takes another scan for an error
                return _Head(at + 2 + length, is_only_scan=0 < components == data[at + 4])
            if marker in _SEQUENTIAL:
                components = data[at + 9]
            elif marker not in _TABLES and marker not in _FRAMES:
                break
            at += 2 + length
    except IndexError:  # the file ends
        pass
    return _Head(None, is_only_scan=False)


def _check_scans(data: bytes) -> None:
    """Refuse a file whose scans would keep the decoder busy for minutes."""
    if next(islice(_SCAN.finditer(data), MAX_SCANS, None), None) is None:  # fast, but it finds those in embedded files
        return
    scans = (marker for marker, _ in _segments(data) if marker == _START_OF_SCAN)
    if next(islice(scans, MAX_SCANS, None), None) is not None:
        raise PictureError(f"the JPEG file has more than {MAX_SCANS} scans: save it anew")


def _check_frame(data: bytes) -> None:
    """Refuse by name what neither decoder supports. Errors of the decoders do not tell it from damage."""
    marker, frame = next(((marker, segment) for marker, segment in _segments(data) if marker in _FRAMES), (0, b""))
    if len(frame) < 6:
        return
    factors = [(factor >> 4, factor & 15) for factor in frame[7::3]]
    most = [max(sides, default=1) for sides in zip(*factors, strict=True)]
    kind = None
    if frame[0] != 8:
        kind = f"JPEG with {frame[0]} bits a sample"
    elif marker in _HIERARCHICAL:
        kind = "hierarchical JPEG"
    elif not any(frame[1:3]):
        kind = "JPEG without a height in its header"
    elif frame[5] not in (1, 3, 4):
        kind = f"JPEG with {frame[5]} components"
    elif any(side and whole % side for each in factors for side, whole in zip(each, most, strict=True)):
        kind = "JPEG with fractional sampling factors"
    if kind is not None:
        raise PictureError(f"{kind} is not supported: save it as grey or RGB, with 8 bits a sample")


def divisors(width: int, height: int) -> tuple[int, ...]:
    """Return the factors by which decoding can reduce a picture of this size, largest first."""
    # simplejpeg takes the wanted size instead of a factor; for pictures below one block that is ambiguous
    return (8, 4, 2) if max(width, height) >= _BLOCK else ()
