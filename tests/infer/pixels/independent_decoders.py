"""Decoders of other projects, where they are installed: what they make of a file is compared with our pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _has_imagemagick() -> bool:
    if shutil.which("convert") is None:
        return False
    said = subprocess.run(["convert", "--version"], capture_output=True, check=False).stdout
    return b"ImageMagick" in said


needs_imagemagick = pytest.mark.skipif(not _has_imagemagick(), reason="ImageMagick is not installed")


def needs(program: str, package: str) -> pytest.MarkDecorator:
    reason = f"{program} is not installed (Debian: {package})"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def imagemagick(data: bytes, suffix: str, shape: tuple[int, ...], folder: Path) -> Floats:
    """The first picture's pixels by ``convert``, float (h, w, 3), 0 to 255, transparency on white."""
    file, raw = folder / f"drawn.{suffix}", folder / "raw.rgb"
    file.write_bytes(data)
    placed = ["-coalesce"] if suffix == "gif" else []  # frames are put on their screen
    options = [*placed, "-background", "white", "-flatten", "-colorspace", "sRGB", "-depth", "8"]
    subprocess.run(["convert", f"{file}[0]", *options, raw], check=True, capture_output=True)
    return np.frombuffer(raw.read_bytes(), np.uint8).reshape(shape).astype(float)


def netpbm(command: list[str], data: bytes | None = None) -> Floats:
    """What a command writes to standard output as PGM, PPM or PAM of 8 bits, float (h, w, samples), 0 to 255."""
    done = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    if done.startswith(b"P7"):
        head, _, samples = done.partition(b"ENDHDR\n")
        fields = dict(line.split() for line in head.splitlines()[1:])
        width, height = int(fields[b"WIDTH"]), int(fields[b"HEIGHT"])
    else:
        _, size, _, samples = done.split(b"\n", 3)
        width, height = map(int, size.split())
    return np.frombuffer(samples, np.uint8).reshape(height, width, -1).astype(float)
