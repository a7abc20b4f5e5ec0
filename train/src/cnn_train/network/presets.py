"""Our networks, shaped by the runtime that runs them: int8 in ONNX Runtime on a processor.

Plain 3x3 convolutions, most of them 48 or 96 wide (the int8 kernel works on 48 columns at a time: those widths
were measured faster for their size than 64 and 128), batch norm that folds, ReLU, max pooling, one fully connected
layer. In trainings of minutes residual blocks cost more than they brought.

The first convolution's kernel is fast only for multiples of 4 input channels. :class:`Shifts` and
:class:`SpaceToDepth` make them by moving pixels, without arithmetic, so that export lets ONNX Runtime do it on
the raw bytes. They pad with zero, which is the pixel value that normalisation calls the zero point.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_train.errors import ConfigError

MIN_SIDE = 8

NOISE = 5e-4
"""Variance, of pictures of variance 1, below which a principal component is taken for noise."""


PRESETS = {
    "nano": ((32, 48), (48, 48)),
    "small": ((48, 48), (96, 96), (96, 96, 96)),
    "base": ((64, 64), (128, 128), (192, 192)),
    "large": ((64, 64), (128, 128), (256, 256, 256)),
}
"""The widths of the convolutions in each stage; behind a stage's first convolution comes its pooling."""


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


class Whitening(nn.Module):
    """The principal components of 2x2 patches (of a block, where there are blocks), scaled to unit variance; of each
    its positive part and that of its opposite. Computed from training pictures by :func:`whiten`, not learned (Page,
    2019, https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks/; both signs: Jordan, 2024,
    arXiv:2404.00498). As a 1x1 convolution it costs little, and the training gets along with half the epochs.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * inputs, 1, bias=False)
        self.convolution.requires_grad_(False)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, 2 * inputs, h, w)."""
        return functional.relu(self.convolution(patches))


class ConvNorm(nn.Module):
    """A 3x3 convolution, max pooling if asked for, batch norm and ReLU.

    In training the norm follows the pooling, which leaves it a quarter of the values. It has a bias but no scale of its
    own (the next filters can do that), so it never changes the order of values and may as well come first: so it does
    in evaluation, where it folds into the convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.norm.weight.requires_grad_(False)
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w), or half of h and w."""
        features = self.convolution(features)
        if not self.pool:
            return functional.relu(self.norm(features))
        if self.training:
            return functional.relu(self.norm(functional.max_pool2d(features, 2)))
        return functional.max_pool2d(functional.relu(self.norm(features)), 2)


class GlobalMaxPool(nn.Module):
    """The largest value of each feature: training may show pictures of other sizes than the network's own."""

    def forward(self, features: Tensor) -> Tensor:
        """(n, width, h, w) to (n, width)."""
        # where the size is known, as in export, this is a plain MaxPool, which stays in int8
        return functional.max_pool2d(features, features.shape[2:]).flatten(1)


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
    block = 1 if max(size) <= 48 else 2 if max(size) <= 112 else 4
    values = channels * (block**2 if block > 1 else 4)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["rearrange"] = SpaceToDepth(block) if block > 1 else Shifts()
    layers["whitening"] = Whitening(values)
    height, width = -(-size[0] // block), -(-size[1] // block)
    features = 2 * values
    for stage, widths in enumerate(PRESETS[name], start=1):
        halve = min(height, width) >= 2
        for number, outputs in enumerate(widths, start=1):
            layers[f"stage{stage}_{number}"] = ConvNorm(features, outputs, pool=halve and number == 1)
            features = outputs
        if halve:
            height, width = height // 2, width // 2
    layers["pool"] = GlobalMaxPool()
    layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(features, classes)
    return nn.Sequential(layers)


@torch.no_grad()
def whiten(network: nn.Module, pictures: Tensor) -> None:
    """Set the weights of the network's :class:`Whitening`, where it has one.

    Args:
        network: From :func:`preset`; another stays as it is.
        pictures: Some thousand training pictures, float (n, c, h, w), normalised.
    """
    layer = getattr(network, "whitening", None)
    if not isinstance(layer, Whitening):
        return
    patches = network.get_submodule("rearrange")(pictures).movedim(1, 3).flatten(0, 2).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    # noise that hardly varies must not become as loud as the picture
    components = (vectors / (values + NOISE).sqrt()).T.float()
    layer.convolution.weight.copy_(torch.cat([components, -components])[:, :, None, None])
