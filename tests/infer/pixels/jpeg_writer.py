"""A writer of JPEG files for tests: every sampling, coding and colour space, from coefficients that the test knows.

It is independent of libjpeg, and so are the right pixels that follow from the coefficients (ITU-T T.81; the colour
spaces by JFIF 1.02 and Adobe's technical note 5116).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import product

import numpy as np
from jpeg_coding import (
    OWN,
    STANDARD,
    Coder,
    Table,
    Unit,
    ac_first,
    ac_refined,
    bits,
    codes,
    dc_first,
    dc_refined,
    end_of_bands,
    packed,
    sequential,
)
from numpy.typing import NDArray

ZIGZAG = sorted(product(range(8), repeat=2), key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
STEPS = np.array([1 + place // 16 for place in range(64)])
"""The quantization table, in zigzag order."""

DCT = np.array(
    [[np.cos((2 * n + 1) * k * np.pi / 16) / (2 if k else 2 * np.sqrt(2)) for n in range(8)] for k in range(8)]
)

Sampling = tuple[tuple[int, int], ...]
"""Horizontal and vertical sampling factor of each component."""


@dataclass(frozen=True)
class Component:
    """Coefficients, int (rows of blocks, columns of blocks, 64) in zigzag order, and the samples they stand for."""

    across: int
    down: int
    blocks: NDArray[np.int64]
    rows: int
    columns: int

    @property
    def samples(self) -> NDArray[np.float64]:
        """Samples from 0 to 255, float (rows, columns)."""
        square = np.zeros((*self.blocks.shape[:2], 8, 8))
        for place, (row, column) in enumerate(ZIGZAG):
            square[:, :, row, column] = self.blocks[:, :, place] * STEPS[place]
        found = np.einsum("kn,abkl,lm->anbm", DCT, square, DCT)
        whole = found.reshape(8 * len(self.blocks), -1)[: self.rows, : self.columns]
        return np.clip(whole + 128, 0, 255)


def drawn(width: int, height: int, sampling: Sampling, seed: int = 0) -> list[Component]:
    """Random components: flat and busy blocks, long runs of zeros, and values up to the ends of the range."""
    random = np.random.default_rng(seed)
    most_across, most_down = max(one[0] for one in sampling), max(one[1] for one in sampling)
    components = []
    for across, down in sampling:
        rows = -(-height * down // most_down)
        columns = -(-width * across // most_across)
        shape = -(-height // (8 * most_down)) * down, -(-width // (8 * most_across)) * across
        values = random.normal(0, 12, (*shape, 64)) * (random.random((*shape, 64)) < random.random((*shape, 1)) / 3)
        values[:, :, 0] = random.integers(-1000, 1000, shape)
        values[:, :, 63] += random.integers(0, 2, shape)
        components.append(Component(across, down, np.round(values).astype(int), rows, columns))
    return components


def upsampled(
    one: Component, width: int, height: int, sampling: Sampling, *, smooth: bool = True
) -> NDArray[np.float64]:
    """A component's samples for every pixel, float (height, width).

    T.81 leaves the filter to the decoder. ``smooth`` is what libjpeg calls fancy upsampling: where a factor is 2,
    samples are interpolated with weights of 3/4 and 1/4. Otherwise samples are repeated.
    """
    across = max(each[0] for each in sampling) // one.across
    down = max(each[1] for each in sampling) // one.down
    found = one.samples
    smooth &= (across, down) in ((1, 2), (2, 1), (2, 2)) and (across == 1 or one.columns > 2)
    for axis, factor in ((0, down), (1, across)):
        found = _doubled(found, axis) if smooth and factor == 2 else np.repeat(found, factor, axis)
    return found[:height, :width]


def _doubled(samples: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    padded = np.pad(samples, [(1, 1) if place == axis else (0, 0) for place in range(2)], "edge")
    before, here, after = (np.take(padded, range(start, start + samples.shape[axis]), axis) for start in range(3))
    pair = np.stack([(before + 3 * here) / 4, (3 * here + after) / 4], axis + 1)
    return pair.reshape([2 * side if place == axis else side for place, side in enumerate(samples.shape)])


def rgb_of_ycc(ycc: NDArray[np.float64]) -> NDArray[np.float64]:
    """JFIF's conversion; (..., 3), 0 to 255."""
    luma, blue, red = ycc[..., 0], ycc[..., 1] - 128, ycc[..., 2] - 128
    found = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    return np.clip(found, 0, 255)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


JFIF = segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\0\0")


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def exif(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\1" + entry + bytes(4))


def _units(components: list[Component], chosen: list[int]) -> list[Unit]:
    """The units of a scan. One component alone has no blocks beyond its samples (T.81, A.2.2)."""
    if len(chosen) == 1:
        one = components[chosen[0]]
        rows, columns = -(-one.rows // 8), -(-one.columns // 8)
        return [[(chosen[0], one.blocks[at].tolist())] for at in product(range(rows), range(columns))]
    first = components[0]
    counts = len(first.blocks) // first.down, first.blocks.shape[1] // first.across
    return [
        [
            (number, one.blocks[row * one.down + down, column * one.across + across].tolist())
            for number, one in ((number, components[number]) for number in chosen)
            for down, across in product(range(one.down), range(one.across))
        ]
        for row, column in product(range(counts[0]), range(counts[1]))
    ]


Scan = tuple[list[int], int, int, int, int, Coder]
"""Components, first and last coefficient, high and low bit, coder."""


def _scans(coding: str, count: int) -> list[Scan]:
    everything = list(range(count))
    each = [[number] for number in everything]
    if "progressive" in coding:
        return [
            (everything, 0, 0, 0, 1, dc_first(1)),
            *((one, 1, 5, 0, 2, ac_first(1, 5, 2)) for one in each),
            *((one, 6, 63, 0, 2, ac_first(6, 63, 2)) for one in each),
            *((one, 1, 63, 2, 1, ac_refined(1, 63, 1)) for one in each),
            (everything, 0, 0, 1, 0, dc_refined(0)),
            *((one, 1, 63, 1, 0, ac_refined(1, 63, 0)) for one in each),
        ]
    return [(chosen, 0, 63, 0, 0, sequential) for chosen in (each if "a scan each" in coding else [everything])]


CODINGS = {
    "baseline": 0xC0,
    "baseline, own tables": 0xC0,
    "baseline, no tables": 0xC0,
    "baseline, a scan each": 0xC0,
    "baseline, restarts": 0xC0,
    "extended, own tables": 0xC1,
    "progressive": 0xC2,
    "progressive, restarts": 0xC2,
}
"""Marker of the frame, by name of the coding. Without tables, as in Motion JPEG, a decoder takes the standard's."""

RESTART = 3
"""Units between two restart markers."""


def _tables(tables: dict[int, Table]) -> bytes:
    parts = (bytes([number << 4, *counts, *symbols]) for number, (counts, symbols) in tables.items())
    return b"".join(segment(0xC4, part) for part in parts)


def jpeg(
    components: list[Component], width: int, height: int, *, coding: str = "baseline", ids: bytes, head: bytes = b""
) -> bytes:
    """A JPEG file.

    Args:
        components: From :func:`drawn`.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        coding: Out of :data:`CODINGS`.
        ids: Identifier of each component.
        head: Segments behind the first marker.
    """
    tables = OWN if "own tables" in coding or "progressive" in coding else STANDARD
    dc, ac = (codes(tables[number]) for number in range(2))
    restart = RESTART if "restarts" in coding else 0
    frame = struct.pack(">BHHB", 8, height, width, len(components))
    frame += b"".join(bytes([ids[at], one.across << 4 | one.down, 0]) for at, one in enumerate(components))
    parts = [b"\xff\xd8", head, segment(0xDB, b"\0" + STEPS.astype("u1").tobytes()), segment(CODINGS[coding], frame)]
    if "no tables" not in coding:
        parts.append(_tables(tables))
    if restart:
        parts.append(segment(0xDD, struct.pack(">H", restart)))
    for chosen, first, last, high, low, coder in _scans(coding, len(components)):
        who = b"".join(bytes([ids[number], 0]) for number in chosen)
        parts.append(segment(0xDA, bytes([len(chosen)]) + who + bytes([first, last, high << 4 | low])))
        units = _units(components, chosen)
        for start in range(0, len(units), restart or len(units)):
            if start:
                parts.append(bytes([0xFF, 0xD0 + (start // restart - 1) % 8]))
            parts.append(packed("".join(coder(units[start : start + (restart or len(units))], dc, ac))))
    return b"".join([*parts, b"\xff\xd9"])


def lossless(samples: NDArray[np.int64]) -> bytes:
    """A grey file in which each sample is predicted from the one before it (T.81, annex H)."""
    height, width = samples.shape
    known = codes(OWN[0])
    before = np.c_[np.r_[128, samples[:-1, 0]], samples[:, :-1]]
    differences = (samples - before).ravel().tolist()
    sizes = (abs(difference).bit_length() for difference in differences)
    text = "".join(known[size] + bits(difference, size) for difference, size in zip(differences, sizes, strict=True))
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    scan = b"\1\1\0\1\0\0"  # predictor 1
    start = b"\xff\xd8" + segment(0xC3, frame) + _tables({0: OWN[0]})
    return start + segment(0xDA, scan) + packed(text) + b"\xff\xd9"


def many_scans(width: int, height: int) -> bytes:
    """A grey progressive file that is flat, with a scan for each bit of each coefficient: 883 scans."""
    blocks = -(-width // 8) * -(-height // 8)
    dc, ac = codes(OWN[0]), codes(OWN[1])
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    parts = [b"\xff\xd8", segment(0xDB, bytes([0, *[1] * 64])), segment(0xC2, frame), _tables(OWN)]
    parts += [segment(0xDA, b"\1\1\0\0\0\0"), packed(dc[0] * blocks)]
    longest = (1 << 15) - 1
    runs = [*[longest] * (blocks // longest), *([blocks % longest] if blocks % longest else [])]
    empty = packed("".join(end_of_bands(run, ac) for run in runs))
    for place, low in product(range(1, 64), reversed(range(14))):
        high = 0 if low == 13 else low + 1
        parts += [segment(0xDA, bytes([1, 1, 0, place, place, high << 4 | low])), empty]
    return b"".join([*parts, b"\xff\xd9"])
