"""The files of a folder of vectors, and the records of pixels in its index."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_infer.proof.conformance import pixels_of, samples_of

if TYPE_CHECKING:
    from cnn_infer.pixels.resize import DecodedPicture

MAX_PIXEL_BYTES = 256 << 10
"""Largest size of the pixels of all picture files together. A picture beyond it has a SHA-256 and a sample only."""


@dataclass
class Store:
    """The files of the vectors.

    Attributes:
        folder: Where they are written.
        written: Size of all files so far, in bytes.
        names: Names of the written files of pixels.
        left: Bytes of pixels that may still be written.
    """

    folder: Path
    written: int = 0
    names: set[str] = field(default_factory=set)
    left: int = field(default_factory=lambda: MAX_PIXEL_BYTES)

    def write(self, name: str, data: bytes) -> str:
        """Write a file and return its name."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        self.written += len(data)
        return name

    def record(self, picture: DecodedPicture, *, limited: bool = False) -> dict[str, Any]:
        """Return the record of pixels, and write them into a file named by their SHA-256 unless it exists.

        Args:
            picture: A PIL image or an array.
            limited: Whether the pixels count towards :data:`MAX_PIXEL_BYTES`. What does not fit gets no file.
        """
        found, samples = pixels_of(picture), samples_of(picture)
        height, width, channels = samples.shape
        name, data = f"raw/{found.sha256[:16]}.raw", samples.tobytes()
        if name not in self.names and (not limited or len(data) <= self.left):
            self.write(name, data)
            self.names.add(name)
            self.left -= len(data) if limited else 0
        return {
            "mode": found.mode,
            "width": width,
            "height": height,
            "channels": channels,
            "bits": 8 * samples.itemsize,
            "sha256": found.sha256,
            "sample": base64.b64encode(found.sample).decode(),
            "raw": name if name in self.names else None,
        }
