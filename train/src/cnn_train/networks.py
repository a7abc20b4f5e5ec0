"""Our networks, shaped by the runtime that runs them: int8 in ONNX Runtime on a processor.

Plain 3x3 convolutions, most of them 48 or 96 wide (the int8 kernel works on 48 columns at a time: those widths
were measured faster for their size than 64 and 128), batch norm right behind its convolution so that it folds,
ReLU, max pooling, residual additions (He et al., 2016, arXiv:1512.03385), one fully connected layer.

The first convolution's kernel is fast only for multiples of 4 input channels. :class:`Shifts` and
:class:`SpaceToDepth` make them by moving pixels, without arithmetic, so that export lets ONNX Runtime do it on
the raw bytes. They pad with zero, which is the pixel value that normalisation calls the zero point.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_train.errors import ConfigError

MIN_SIDE = 8


@dataclass(frozen=True)
class Shape:
    """What tells the presets apart: the stem's width, then (width, residual blocks) for each stage."""

    stem: int
    stages: tuple[tuple[int, int], ...]


PRESETS = {
    "nano": Shape(16, ((48, 0), (48, 1))),
    "small": Shape(48, ((48, 1), (96, 1), (96, 1))),
    "base": Shape(48, ((96, 2), (144, 1))),
}


class Shifts(nn.Module):
    """Four copies, moved by (0, 0), (0, 1), (1, 0) and (1, 1) pixels: a 3x3 convolution then spans 4x4."""

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, c, h, w) to (n, 4c, h, w)."""
        height, width = pictures.shape[2:]
        padded = functional.pad(pictures, (0, 1, 0, 1))
        moved = [padded[:, :, down : down + height, right : right + width] for down in (0, 1) for right in (0, 1)]
        return torch.cat(moved, dim=1)


class SpaceToDepth(nn.Module):
    """Squares of ``block`` x ``block`` pixels become the channels of one; what is missing at the edge is zero."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c * block * block, ceil(h / block), ceil(w / block))."""
        bottom, right = -pictures.shape[2] % self.block, -pictures.shape[3] % self.block
        if bottom or right:
            pictures = functional.pad(pictures, (0, right, 0, bottom))
        return functional.pixel_unshuffle(pictures, self.block)


class ConvNorm(nn.Sequential):
    """A 3x3 convolution and its batch norm, with or without ReLU."""

    def __init__(self, inputs: int, outputs: int, *, relu: bool = True) -> None:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """relu(x + two convolutions). The second batch norm starts at zero, the block as a mere ReLU (Goyal et al.,
    2017, arXiv:1706.02677).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width, relu=False)
        nn.init.zeros_(self.second.get_parameter("1.weight"))

    def forward(self, features: Tensor) -> Tensor:
        """(n, width, h, w) to the same shape."""
        return functional.relu(features + self.second(self.first(features)))


def preset(name: str, *, classes: int, channels: int, size: tuple[int, int], dropout: float) -> nn.Module:
    """A network for pictures of ``size`` (height, width): normalised float (n, channels, h, w) in, logits out.

    Up to 48 pixels a side the first convolution works at full resolution; larger pictures are first rearranged,
    2x2 up to 112 pixels and 4x4 beyond, so that their cost stays within a few times that of small ones. Each stage
    begins by halving what is at least 2 pixels wide; at the end the largest value of each feature is what counts.

    Raises:
        ConfigError: the pictures are smaller than :data:`MIN_SIDE` pixels.
    """
    if min(size) < MIN_SIDE:
        raise ConfigError(f"{name} takes pictures of at least {MIN_SIDE} pixels a side, not {size[0]} x {size[1]}")
    shape = PRESETS[name]
    block = 1 if max(size) <= 48 else 2 if max(size) <= 112 else 4
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["rearrange"] = SpaceToDepth(block) if block > 1 else Shifts()
    layers["stem"] = ConvNorm(channels * (block**2 if block > 1 else 4), shape.stem)
    height, width = -(-size[0] // block), -(-size[1] // block)
    features = shape.stem
    for number, (outputs, blocks) in enumerate(shape.stages, start=1):
        if min(height, width) >= 2:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
        if outputs != features:
            layers[f"widen{number}"] = ConvNorm(features, outputs)
            features = outputs
        for index in range(blocks):
            layers[f"block{number}_{index + 1}"] = Residual(features)
    # the size is known, so this is a plain MaxPool, which stays in int8
    layers["pool"] = nn.MaxPool2d((height, width))
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(features, classes)
    return nn.Sequential(layers)
