"""Augmentation of a whole batch by tensor operations. Every picture has its own random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cnn_train.network.logits import to_input
from cnn_train.options import AUGMENTATIONS

MAX_DEGREES = 15.0
MIN_ZOOM_PART = 0.6
"""Smallest part of a picture's sides that zooming shows."""

MAX_COLOUR_CHANGE = 0.3


def augment(batch: Tensor, names: Sequence[str], generator: torch.Generator) -> Tensor:
    """Augment every picture of a batch.

    Args:
        batch: Normalised pictures, float (n, channels, height, width).
        names: Any of :data:`cnn_train.options.AUGMENTATIONS`. They are applied in the order listed there.
        generator: Source of the random numbers, on the device of the batch.

    Returns:
        The augmented batch, of the same shape, dtype and memory format.
    """
    for name in AUGMENTATIONS:
        if name in names:
            batch = _BY_NAME[name](batch, generator)
    return batch


def augmented_pixels(pictures: NDArray[np.uint8], spec: Spec, names: Sequence[str], seed: int) -> NDArray[np.uint8]:
    """Augment pictures for people to look at.

    Args:
        pictures: uint8 (n, h, w, c).
        spec: Normalisation.
        names: As for :func:`augment`.
        seed: Random seed.

    Returns:
        uint8 (n, h, w, c).
    """
    batch = to_input(pictures, spec, torch.device("cpu"))
    batch = augment(batch, names, torch.Generator().manual_seed(seed))
    pixels = (batch / spec.scale + spec.zero_point).round().clamp(0, 255).byte()
    result: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).numpy()
    return result


def _random(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One random number per picture, uniform in [0, 1): float32 (n,)."""
    return torch.rand(len(batch), generator=generator, device=batch.device)


def _flip(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures, left to right."""
    mirrored = _random(batch, generator) < 0.5
    return torch.where(mirrored[:, None, None, None], batch.flip(3), batch)


def _crop(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Pad by reflection, then crop at random: a shift by up to a twelfth of the shorter side, at least one pixel."""
    count, _, height, width = batch.shape
    reach = max(1, round(min(height, width) / 12))
    padded = functional.pad(batch, (reach,) * 4, mode="reflect")
    limit = 2 * reach + 1
    down = (_random(batch, generator) * limit).long()[:, None] + torch.arange(height, device=batch.device)
    across = (_random(batch, generator) * limit).long()[:, None] + torch.arange(width, device=batch.device)
    pictures = torch.arange(count, device=batch.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[pictures, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def _zoom(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Enlarge a random part of the picture with 0.6 to 1 of its sides, bilinear (after Szegedy et al., 2015,
    arXiv:1409.4842, but with the aspect ratio kept).
    """
    part = 1 - (1 - MIN_ZOOM_PART) * _random(batch, generator)
    across, down = ((1 - part) * (2 * _random(batch, generator) - 1) for _ in range(2))
    zero = torch.zeros_like(part)
    return _transform(batch, torch.stack([part, zero, across, zero, part, down], dim=1))


def _rotate(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate about the centre by up to 15 degrees, bilinear, padded by reflection."""
    height, width = batch.shape[2:]
    angle = (2 * _random(batch, generator) - 1) * math.radians(MAX_DEGREES)
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    return _transform(
        batch, torch.stack([cosine, -sine * height / width, zero, sine * width / height, cosine, zero], dim=1)
    )


def _transform(batch: Tensor, matrices: Tensor) -> Tensor:
    """Transform each picture by its affine matrix: (n, 6), row by row, from output to input coordinates in [-1, 1]."""
    grid = functional.affine_grid(matrices.reshape(-1, 2, 3), list(batch.shape), align_corners=False)
    moved = functional.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)


def _cutout(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Set a square of a quarter of the shorter side to zero, the mean (DeVries and Taylor, 2017, arXiv:1708.04552)."""
    _, _, height, width = batch.shape
    side = max(1, round(min(height, width) / 4))
    top = (_random(batch, generator) * (height - side + 1)).long()[:, None]
    left = (_random(batch, generator) * (width - side + 1)).long()[:, None]
    rows, columns = torch.arange(height, device=batch.device), torch.arange(width, device=batch.device)
    inside = ((rows >= top) & (rows < top + side))[:, :, None] & ((columns >= left) & (columns < left + side))[:, None]
    return torch.where(inside[:, None], 0.0, batch)  # masked_fill would lose the memory format


def _colour(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast and, in RGB pictures, saturation by up to 30% each."""

    def factor() -> Tensor:
        return (1 + MAX_COLOUR_CHANGE * (2 * _random(batch, generator) - 1))[:, None, None, None]

    brightness = factor() - 1
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    batch = (batch - mean) * factor() + mean + brightness
    if batch.shape[1] == 3:
        grey = batch.mean(dim=1, keepdim=True)
        batch = (batch - grey) * factor() + grey
    return batch


_BY_NAME: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": _flip,
    "crop": _crop,
    "zoom": _zoom,
    "rotate": _rotate,
    "cutout": _cutout,
    "colour": _colour,
}
