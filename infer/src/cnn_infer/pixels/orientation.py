"""Turn pictures upright by their EXIF orientation, 1 to 8 (Exif 2.32, tag 274)."""

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
    """Return the EXIF orientation, 1 if there is none or the EXIF data is damaged.

    Pillow turns TIFF files upright when it loads their pixels; afterwards their orientation is 1.
    """
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow raises many types here
        return 1  # the pixels can be good even if the EXIF data is damaged


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the upright (width, height) of a picture that is stored with ``size`` = (width, height)."""
    return (size[1], size[0]) if 5 <= orientation <= 8 else size


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the picture turned upright."""
    transpose = _TRANSPOSE.get(orientation)
    return image if transpose is None else image.transpose(transpose)
