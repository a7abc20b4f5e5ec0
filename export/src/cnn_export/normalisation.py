"""The normalisation of a network from elsewhere: a mean and a deviation for each channel, of pixels from 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_export.errors import ExportError

LIMITS = {"mean": (0.0, 1.0), "std": (0.001, 10.0)}
"""Smallest and largest accepted values. Those of pixels from 0 to 255 are larger: the user meant another unit."""

NEGLIGIBLE = 1e-4
"""A mean counts as a whole pixel value if it differs by less, in units of pixel values: float32 has no more digits."""


def per_channel(name: str, given: float | Sequence[float], channels: int) -> NDArray[np.float64]:
    """Return ``mean`` or ``std`` as float64 (channels,).

    Args:
        name: ``mean`` or ``std``.
        given: One value for each channel, or one for all.
        channels: 1 or 3.

    Raises:
        ExportError: these are not numbers within :data:`LIMITS`, or not one or ``channels`` of them.
    """
    low, high = LIMITS[name]
    try:
        values = np.array(given, np.float64).ravel()
    except (TypeError, ValueError):
        raise ExportError(f"{name} must be a number or one number for each channel, not {given!r}") from None
    if len(values) not in (1, channels):
        raise ExportError(f"{name} has {len(values)} values, but the pictures have {_quantity(channels)}")
    if not ((values >= low) & (values <= high)).all():
        unit = "for pixels from 0 to 1, as in torchvision: divide values for pixels from 0 to 255 by 255"
        raise ExportError(f"{name} must be from {low:g} to {high:g}, not {given!r}: it is {unit}")
    return np.broadcast_to(values, channels).copy()


def _quantity(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


@dataclass(frozen=True)
class ContractNormalisation:
    """A normalisation in the form of the model contract, and what is left to compute for each channel.

    ``(pixels / 255 - mean) / std`` equals ``gain * (pixels - zero_point) * scale + shift``.

    Attributes:
        zero_point: Pixel value, 0 to 255.
        scale: One factor for all channels.
        gain: float64 (channels,).
        shift: float64 (channels,). It is 0 where the mean is the zero point.
    """

    zero_point: int
    scale: float
    gain: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def of(cls, mean: NDArray[np.float64], std: NDArray[np.float64]) -> ContractNormalisation:
        """Choose the zero point and the scale nearest to a mean and a deviation, float64 (channels,), 0 to 1."""
        zero_point = round(255 * float(mean.mean()))
        scale = 1 / (255 * float(std.mean()))
        gain = np.ones(len(std)) if np.ptp(std) == 0 else 1 / (255 * std * scale)
        distance = zero_point - 255 * mean
        shift = np.where(np.abs(distance) < NEGLIGIBLE, 0.0, distance / (255 * std))
        return cls(zero_point, scale, gain, shift)


class Normalised(nn.Module):
    """A network behind its own normalisation. It takes pixels, float32 (n, channels, height, width), 0 to 1.

    Args:
        network: Takes (pixels - mean) / std.
        mean: float64 (channels,).
        std: float64 (channels,).
    """

    def __init__(self, network: nn.Module, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1) for values in (mean, std))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return what the network returns."""
        # contiguous, as a data loader gives it: a network may call view() on its input
        result: Tensor = self.network(((pixels - self.mean) / self.std).contiguous())
        return result
