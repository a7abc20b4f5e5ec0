"""A writer of JPEG files for tests: every sampling, coding and colour space, from coefficients that the test knows.

It is independent of libjpeg, and so are the right pixels that follow from the coefficients (ITU-T T.81; the colour
spaces by JFIF 1.02 and Adobe's technical note 5116).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
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


Table = tuple[list[int], list[int]]
"""Number of codes of each length from 1 to 16, and the symbols in the order of their codes."""

STANDARD: dict[int, Table] = {  # T.81, tables K.3 and K.5
    0: ([0, 1, 5, 1, 1, 1, 1, 1, 1, *[0] * 7], [*range(12)]),
    1: (
        [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
        [
            *bytes.fromhex(
                "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435"
                "363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798"
                "999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4"
                "f5f6f7f8f9fa"
            )
        ],
    ),
}
OWN: dict[int, Table] = {
    0: ([0, 0, 0, 12, *[0] * 12], [*range(12)]),
    1: ([*[0] * 7, 128, 128, *[0] * 7], [*range(256)]),
}


def _codes(table: Table) -> dict[int, str]:
    found, code, symbols = {}, 0, iter(table[1])
    for length, count in enumerate(table[0], 1):
        for _ in range(count):
            found[next(symbols)] = f"{code:0{length}b}"
            code += 1
        code <<= 1
    return found


def _bits(value: int, size: int) -> str:
    """The low ``size`` bits; of negative values one less (T.81, F.1.2.1)."""
    return f"{value + (1 << size) - 1 if value < 0 else value:0{size}b}" if size else ""


Unit = list[tuple[int, list[int]]]
"""The blocks of one minimum coded unit: number of the component, and its coefficients."""

Coder = Callable[[list[Unit], dict[int, str], dict[int, str]], Iterator[str]]
"""Codes the units of a restart interval with the tables of DC and AC."""


def sequential(units: list[Unit], dc: dict[int, str], ac: dict[int, str]) -> Iterator[str]:
    differences = dc_first(0)(units, dc, ac)
    for _, values in (block for unit in units for block in unit):
        yield next(differences)
        yield from _run_lengths(values[1:], ac, ac[0])


def _run_lengths(values: list[int], ac: dict[int, str], end: str) -> Iterator[str]:
    """Code values with the runs of zeros before them; ``end`` stands for zeros behind the last."""
    last = max((place for place, value in enumerate(values) if value), default=-1)
    run = 0
    for value in values[: last + 1]:
        if not value:
            run += 1
            continue
        yield ac[0xF0] * (run // 16)
        size = abs(value).bit_length()
        yield ac[run % 16 << 4 | size] + _bits(value, size)
        run = 0
    if last + 1 < len(values):
        yield end


def dc_first(low: int) -> Coder:
    def coder(units: list[Unit], dc: dict[int, str], ac: dict[int, str]) -> Iterator[str]:
        before: dict[int, int] = {}
        for component, values in (block for unit in units for block in unit):
            value = values[0] >> low
            difference = value - before.get(component, 0)
            before[component] = value
            size = abs(difference).bit_length()
            yield dc[size] + _bits(difference, size)

    return coder


def dc_refined(low: int) -> Coder:
    return lambda units, dc, ac: (str(values[0] >> low & 1) for unit in units for _, values in unit)


def ac_first(first: int, last: int, low: int) -> Coder:
    def coder(units: list[Unit], dc: dict[int, str], ac: dict[int, str]) -> Iterator[str]:
        ended = 0  # blocks without anything more
        for _, values in (block for unit in units for block in unit):
            band = [(abs(value) >> low) * (1 if value > 0 else -1) for value in values[first : last + 1]]
            if any(band) and ended:
                yield _end_of_bands(ended, ac)
                ended = 0
            yield from _run_lengths(band, ac, "")
            ended += not band[-1]
        yield _end_of_bands(ended, ac)

    return coder


def _end_of_bands(blocks: int, ac: dict[int, str]) -> str:
    size = blocks.bit_length() - 1
    return ac[size << 4] + f"{blocks:b}"[1:] if blocks else ""


def ac_refined(first: int, last: int, low: int) -> Coder:
    def coder(units: list[Unit], dc: dict[int, str], ac: dict[int, str]) -> Iterator[str]:
        for _, values in (block for unit in units for block in unit):
            band = [abs(value) >> low for value in values[first : last + 1]]
            newest = max((place for place, value in enumerate(band) if value == 1), default=-1)
            run, corrections = 0, ""
            for place, value in enumerate(band):
                if not value:
                    run += 1
                    continue
                while run > 15 and place <= newest:
                    yield ac[0xF0] + corrections
                    run, corrections = run - 16, ""
                if value > 1:
                    corrections += str(value & 1)
                    continue
                yield ac[run << 4 | 1] + str(int(values[first + place] > 0)) + corrections
                run, corrections = 0, ""
            if run or corrections:
                yield ac[0] + corrections

    return coder


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


def _packed(text: str) -> bytes:
    """Bits as bytes, filled up with ones, and a zero byte behind each byte of ones."""
    text += "1" * (-len(text) % 8)
    return int("1" + text, 2).to_bytes(len(text) // 8 + 1)[1:].replace(b"\xff", b"\xff\0")


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
    dc, ac = (_codes(tables[number]) for number in range(2))
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
            parts.append(_packed("".join(coder(units[start : start + (restart or len(units))], dc, ac))))
    return b"".join([*parts, b"\xff\xd9"])


def lossless(samples: NDArray[np.int64]) -> bytes:
    """A grey file in which each sample is predicted from the one before it (T.81, annex H)."""
    height, width = samples.shape
    codes = _codes(OWN[0])
    before = np.c_[np.r_[128, samples[:-1, 0]], samples[:, :-1]]
    differences = (samples - before).ravel().tolist()
    sizes = (abs(difference).bit_length() for difference in differences)
    text = "".join(codes[size] + _bits(difference, size) for difference, size in zip(differences, sizes, strict=True))
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    scan = b"\1\1\0\1\0\0"  # predictor 1
    start = b"\xff\xd8" + segment(0xC3, frame) + _tables({0: OWN[0]})
    return start + segment(0xDA, scan) + _packed(text) + b"\xff\xd9"


def many_scans(width: int, height: int) -> bytes:
    """A grey progressive file that is flat, with a scan for each bit of each coefficient: 883 scans."""
    blocks = -(-width // 8) * -(-height // 8)
    codes = _codes(OWN[0]), _codes(OWN[1])
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
    parts = [b"\xff\xd8", segment(0xDB, bytes([0, *[1] * 64])), segment(0xC2, frame), _tables(OWN)]
    parts += [segment(0xDA, b"\1\1\0\0\0\0"), _packed(codes[0][0] * blocks)]
    longest = (1 << 15) - 1
    runs = [*[longest] * (blocks // longest), *([blocks % longest] if blocks % longest else [])]
    empty = _packed("".join(_end_of_bands(run, codes[1]) for run in runs))
    for place, low in product(range(1, 64), reversed(range(14))):
        high = 0 if low == 13 else low + 1
        parts += [segment(0xDA, bytes([1, 1, 0, place, place, high << 4 | low])), empty]
    return b"".join([*parts, b"\xff\xd9"])
