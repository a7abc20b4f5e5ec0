"""One unreadable file of each kind among 10,000: all other rows are correct and in order."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
COUNT = 10_000
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220)}
BOMB = b"BM" + bytes(12) + b"\x28\0\0\0" + (60_000).to_bytes(4, "little") * 2 + b"\x01\0\x18\0" + bytes(24)


def noise(form: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 50).save(stream, form)
    return stream.getvalue()


def bad_files() -> dict[str, Callable[[Path], object]]:
    """Functions that write an unreadable file, by the start of the error in its row."""
    jpeg, png = noise("JPEG"), bytearray(noise("PNG"))
    png[60] ^= 255

    def huge(path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)

    return {
        "the file is empty": lambda path: path.write_bytes(b""),
        "not a picture (": lambda path: path.write_bytes(b"hello"),
        "damaged or unsupported picture: image file is truncated": lambda path: path.write_bytes(jpeg[:-200]),
        "damaged or unsupported picture: broken data stream": lambda path: path.write_bytes(png),
        "damaged or unsupported picture: Truncated": lambda path: path.write_bytes(jpeg[:100]),
        "60000 x 60000 pixels exceed the limit": lambda path: path.write_bytes(BOMB),
        "the file has more than 400,000,000 bytes": huge,
        "TIFF with floating-point samples of 32 bits": lambda path: Image.new("F", (8, 8)).save(path, "TIFF"),
        "cannot read it: No such file or directory": lambda path: path.symlink_to("absent"),
        "cannot read it: Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_all_other_rows_are_correct(tmp_path: Path, models: Path, cli: Run, seed: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    wanted: list[tuple[str | None, str]] = []
    for number in range(COUNT):
        label = list(COLOURS)[number * number % 5 % 3]
        os.link(tmp_path / f"{label}.png", folder / f"{number:05}.png")
        wanted.append((label, ""))
    kinds = bad_files()
    places = [0, COUNT - 1, *random.Random(seed).sample(range(1, COUNT - 1), len(kinds) - 2)]
    for place, (reason, put) in zip(places, random.Random(seed).sample(list(kinds.items()), len(kinds)), strict=True):
        path = folder / f"{place:05}.png"
        path.unlink()
        put(path)
        wanted[place] = (None, reason)
    options = ("--model", models / "rgb.onnx", "--format", "jsonl", "--report", "r.json")
    done = cli("in", *options, "--strict", code=1)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["path"] for row in rows] == [f"in/{number:05}.png" for number in range(COUNT)]
    assert [row["label"] for row in rows] == [label for label, _ in wanted]
    for row, (_, reason) in zip(rows, wanted, strict=True):
        assert (row["error"] or "").startswith(reason)
        assert (row["error"] is None) is not bool(reason)
    printed = done.stderr.decode().splitlines()
    assert f"{COUNT - len(kinds):,} pictures classified, {len(kinds)} could not be read" in printed
    assert printed[-1] == f"cnn-infer: {len(kinds)} of {COUNT:,} pictures could not be read (--strict)"
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["images"], report["errors"]) == (COUNT, len(kinds))
