"""Our networks, designed to be fast as int8 models in ONNX Runtime on a CPU.

They consist of 3x3 convolutions, batch norm, ReLU, max pooling and one fully connected layer. Most convolutions have 48
or 96 filters, because the int8 kernel computes 48 columns at a time: these widths were measured faster for their size
than 64 and 128. In trainings of minutes residual blocks cost more time than their accuracy was worth.

The int8 kernel of the first convolution is fast only if the number of input channels is a multiple of 4.
:class:`Shifts` and :class:`SpaceToDepth` produce such channels by moving pixels, without arithmetic, so the exported
model applies them to the raw bytes. They pad with zero, which is the zero point of the normalisation.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_train.errors import ConfigError

MIN_SIDE = 8
"""Least height and width of the pictures, in pixels."""

NOISE = 5e-4
"""Added to the variance of each principal component, for pictures of variance 1: components with less variance than
this are treated as noise and are not amplified to variance 1."""

WHITENING_BLOCK = 256
"""Pictures whose patches are in memory at once, in float64: 25 MB for 32 x 32 pixels in colour."""

PRESETS = {
    "nano": ((32, 48), (48, 48)),
    "small": ((48, 48), (96, 96), (96, 96, 96)),
    "base": ((64, 64), (128, 128), (192, 192)),
    "large": ((64, 64), (128, 128), (256, 256, 256)),
}
"""Number of filters of each convolution, by stage. The first convolution of a stage is followed by max pooling."""


class Shifts(nn.Module):
    """Four copies of a picture, shifted by (0, 0), (0, 1), (1, 0) and (1, 1) pixels, as channels.

    A 3x3 convolution of them sees 4x4 pixels.
    """

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, c, h, w) to (n, 4c, h, w)."""
        height, width = pictures.shape[2:]
        padded = functional.pad(pictures, (0, 1, 0, 1))
        moved = [padded[:, :, down : down + height, right : right + width] for down in (0, 1) for right in (0, 1)]
        return torch.cat(moved, dim=1)


class SpaceToDepth(nn.Module):
    """Turn each square of ``block`` x ``block`` pixels into the channels of one pixel, padded with zero at the edge."""

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
    """The principal components of 2x2 patches (or of larger blocks) scaled to unit variance, each with both signs.

    :func:`init_whitening` computes the weights from training pictures, and they are not trained (Page, 2019,
    https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks/; both signs: Jordan, 2024, arXiv:2404.00498). As
    a 1x1 convolution this costs little, and it halves the number of epochs that a training needs.

    Args:
        inputs: Values per patch: channels times pixels.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * inputs, 1, bias=False)
        self.convolution.requires_grad_(False)

    def forward(self, patches: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, 2 * inputs, h, w)."""
        return functional.relu(self.convolution(patches))


class ConvNorm(nn.Module):
    """A 3x3 convolution, optional max pooling, batch norm and ReLU.

    In training batch norm follows the pooling, where it has only a quarter of the values to process. In evaluation it
    comes before the pooling, so that it can be folded into the convolution. Both give the same result, because this
    batch norm has no scale of its own (the next convolution learns it) and so never changes the order of values.

    Args:
        inputs: Number of input channels.
        outputs: Number of filters.
        pool: Whether to halve height and width by max pooling.
    """

    def __init__(self, inputs: int, outputs: int, *, pool: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.norm.weight.requires_grad_(False)
        self.pool = pool

    def forward(self, features: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w), or to (n, outputs, h // 2, w // 2) with pooling."""
        features = self.convolution(features)
        if not self.pool:
            return functional.relu(self.norm(features))
        if self.training:
            return functional.relu(self.norm(functional.max_pool2d(features, 2)))
        return functional.max_pool2d(functional.relu(self.norm(features)), 2)


class GlobalMaxPool(nn.Module):
    """The largest value of each channel, for features of any size: training may show smaller pictures."""

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c)."""
        # Exported with a fixed size this becomes a plain MaxPool node, which runs in int8.
        return functional.max_pool2d(features, features.shape[2:]).flatten(1)


def preset(name: str, *, classes: int, channels: int, size: tuple[int, int], dropout: float) -> nn.Module:
    """Return one of our networks with random weights.

    It takes normalised float (n, channels, height, width) and returns logits (n, classes). Up to 48 pixels a side the
    first convolution works at full resolution. Larger pictures are first rearranged by :class:`SpaceToDepth`, 2x2 up to
    112 pixels and 4x4 beyond, so that their cost stays within a few times that of small ones. The first convolution of
    each stage halves height and width, as long as both are at least 2.

    Args:
        name: One of :data:`PRESETS`.
        classes: Number of logits.
        channels: 1 or 3.
        size: (height, width) in pixels.
        dropout: Probability of dropout before the last layer.

    Raises:
        ConfigError: a side is shorter than :data:`MIN_SIDE` pixels.
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
def init_whitening(network: nn.Module, pictures: Tensor) -> None:
    """Compute the weights of the network's :class:`Whitening` layer from training pictures.

    Args:
        network: From :func:`preset`. A network without such a layer is left unchanged.
        pictures: Some thousands of normalised training pictures, float (n, c, h, w).
    """
    layer = getattr(network, "whitening", None)
    if not isinstance(layer, Whitening):
        return
    rearrange, count = network.get_submodule("rearrange"), 0
    products = torch.zeros(layer.convolution.in_channels, layer.convolution.in_channels, dtype=torch.double)
    for block in torch.split(pictures, WHITENING_BLOCK):
        patches = rearrange(block).movedim(1, 3).flatten(0, 2).double()
        products += patches.T @ patches
        count += len(patches)
    values, vectors = torch.linalg.eigh(products / count)
    # NOISE limits the amplification of components that hardly vary.
    components = (vectors / (values + NOISE).sqrt()).T.float()
    layer.convolution.weight.copy_(torch.cat([components, -components])[:, :, None, None])
