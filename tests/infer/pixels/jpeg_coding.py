"""The entropy coding of JPEG files with Huffman tables, sequential and progressive (ITU-T T.81, annexes F and G)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


def codes(table: Table) -> dict[int, str]:
    found, code, symbols = {}, 0, iter(table[1])
    for length, count in enumerate(table[0], 1):
        for _ in range(count):
            found[next(symbols)] = f"{code:0{length}b}"
            code += 1
        code <<= 1
    return found


def bits(value: int, size: int) -> str:
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
        yield ac[run % 16 << 4 | size] + bits(value, size)
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
            yield dc[size] + bits(difference, size)

    return coder


def dc_refined(low: int) -> Coder:
    return lambda units, dc, ac: (str(values[0] >> low & 1) for unit in units for _, values in unit)


def ac_first(first: int, last: int, low: int) -> Coder:
    def coder(units: list[Unit], dc: dict[int, str], ac: dict[int, str]) -> Iterator[str]:
        ended = 0  # blocks without anything more
        for _, values in (block for unit in units for block in unit):
            band = [(abs(value) >> low) * (1 if value > 0 else -1) for value in values[first : last + 1]]
            if any(band) and ended:
                yield end_of_bands(ended, ac)
                ended = 0
            yield from _run_lengths(band, ac, "")
            ended += not band[-1]
        yield end_of_bands(ended, ac)

    return coder


def end_of_bands(blocks: int, ac: dict[int, str]) -> str:
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


def packed(text: str) -> bytes:
    """Bits as bytes, filled up with ones, and a zero byte behind each byte of ones."""
    text += "1" * (-len(text) % 8)
    return int("1" + text, 2).to_bytes(len(text) // 8 + 1)[1:].replace(b"\xff", b"\xff\0")
