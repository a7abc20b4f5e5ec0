"""Which way up a picture is to be shown: the EXIF orientation, 1 to 8 (Exif 2.32, tag 274)."""

from __future__ import annotations

from PIL import Image

_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """What the picture says, 1 where it says nothing. Pillow applies a TIFF's own while it loads."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow raises many kinds here
        return 1  # a damaged EXIF block says nothing about the pixels


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Width and height the other way round where the picture lies on its side."""
    return (size[1], size[0]) if 5 <= orientation <= 8 else size


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as it is to be shown."""
    transpose = _TRANSPOSE.get(orientation)
    return image if transpose is None else image.transpose(transpose)
