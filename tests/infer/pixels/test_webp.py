"""Lossy and lossless WebP files have the pixels that libwebp's own dwebp gives, upright and on white."""

from __future__ import annotations

import io
from base64 import b64decode

import numpy as np
import pytest
from cnn_infer import read_header
from drawn_pictures import found, on_white
from independent_decoders import needs, netpbm
from PIL import Image

SIZES = ((1, 1), (2, 7), (17, 31), (40, 24))
"""Width and height: the colours of lossy files are halved, so odd sizes count."""

FORMS: dict[str, dict[str, object]] = {
    "lossy": {"quality": 80},
    "lossy, coarse": {"quality": 5},
    "lossy, fine": {"quality": 100, "method": 6},
    "lossless": {"lossless": True},
    "lossy, lossy alpha": {"quality": 60, "alpha_quality": 20},
    "lossless, exact": {"lossless": True, "exact": True},
}


def encoded(form: str, mode: str, size: tuple[int, int], orientation: int = 1) -> bytes:
    random = np.random.default_rng(size[0])
    coarse = random.integers(0, 256, (3, 4, len(mode)), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    options = {"exif": exif} if orientation > 1 else {}
    image.save(stream, "WEBP", **FORMS[form], **options)
    return stream.getvalue()


@needs("dwebp", "webp")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("form", FORMS)
def test_pixels_are_those_of_dwebp(form: str, mode: str) -> None:
    for size in SIZES:
        data = encoded(form, mode, size)
        pixels = netpbm(["dwebp", "-quiet", "-pam", "-o", "-", "--", "-"], data)
        assert np.abs(found(data) - on_white(pixels[:, :, :3], pixels[:, :, 3:])).max() <= 1
        assert read_header(data) == (*size, False)


@pytest.mark.parametrize("form", ["lossy", "lossless"])
def test_webp_is_turned_upright(form: str) -> None:
    stored = found(encoded(form, "RGB", (17, 31)))
    for orientation, turned in enumerate(
        (
            stored[:, ::-1],
            stored[::-1, ::-1],
            stored[::-1],
            stored.swapaxes(0, 1),
            np.rot90(stored, -1),
            stored[::-1, ::-1].swapaxes(0, 1),
            np.rot90(stored),
        ),
        2,
    ):
        np.testing.assert_array_equal(found(encoded(form, "RGB", (17, 31), orientation)), turned)


FILE = (
    "UklGRsIAAABXRUJQVlA4WAoAAAAQAAAACAAABgAAQUxQSEAAAAAAoqi919aTOAAArK+8zMaNQxALxcK8sqGAXERC1862k3h1fYOExr2fdV52"
    "ocDDr6aIXk17wPD1pp1+U0R9zf//VlA4IFwAAAAQAgCdASoJAAcAAoBCJbACdDBHQZ0n+z1AAP5m347FA7+5Mz5LjnhKmMtZh5z6N1O//n/j"
    "/t+1QbO3/734ipOx+NT3TfkxlpHXu8cGpr/4YDVP4N//WBqrH7ygAA=="
)
"""By cwebp: lossy, with alpha, 9 x 7."""

PIXELS = (
    "uPPiosryzKja2oi93LlK1+2wLNbyqB+T7acoOJl7QwA/brkAlMXdrKbGxa/Bvom80bJWzN2tMsbcoiqNzZlCQ4d2ZRA3aMMLVXDfxWZ1wMKP"
    "hYi8r5hissitSaG0mkiAlYR+XGRurUQrYNlCKia51zYvn85jUXm2j3pmk7OcWHi1mm91jGiffXJYzoNOTt2EPRGUxkcfib1TNW+fYURQdaR6"
    "YV6zb3F2t0inoaYou8CkMNLDWAp9r1oWdqZaKWeIYzJVXoZBT02rQ2t70C2iwNcZufDZHcr1bAllpmgOXJ1kGVB+ahpHU4AYR0StImp93iCX"
    "ze4VsP/uFMn/"
)
"""What dwebp decodes: red, green, blue and alpha."""


def test_a_lossy_file_has_the_right_pixels_where_dwebp_is_not_installed() -> None:
    right = np.frombuffer(b64decode(PIXELS), np.uint8).reshape(7, 9, 4).astype(float)
    assert np.abs(found(b64decode(FILE)) - on_white(right[:, :, :3], right[:, :, 3:])).max() <= 1
