"""EfficientNet-Lite0, a network for the edge: no squeeze-and-excite, and ReLU6, which int8 computes without extra cost.

Tan and Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946. The Lite
variants: https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnn_train.errors import ConfigError

LITE0 = "lite0"
"""Name of the network, for ``--model``."""

MIN_SIDE = 16
"""Least height and width of the pictures, in pixels; the last features have 1/32 of that."""

STEM, HEAD, DROPOUT = 32, 1280, 0.2
"""Filters of the first and of the last convolution; probability of the dropout before the fully connected layer."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""For each stage: number of blocks, side of the kernel, stride of the first block, expansion, output channels."""

EPSILON = 1e-3
"""Added to the variance by batch norm, as in TensorFlow's models."""


class SamePad(nn.Module):
    """Zero padding in front of a convolution with stride 2, as TensorFlow's ``same`` padding distributes it.

    The output of the convolution has half of the pixels, rounded up. The bottom and the right get the odd pixel.

    Args:
        kernel: Side of the convolution's kernel.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, features: Tensor) -> Tensor:
        """(n, c, h, w) to the padded features."""
        height, width = (self.kernel - 2 + side % 2 for side in features.shape[2:])
        return functional.pad(features, (width // 2, width - width // 2, height // 2, height - height // 2))


class Block(nn.Module):
    """An inverted residual block: expand by a 1x1 convolution, filter each channel, project by a 1x1 convolution.

    Sandler et al., 2018, arXiv:1801.04381.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Side of the kernel of the depthwise convolution.
        stride: Its stride, 1 or 2.
        expansion: Channels of the depthwise convolution as a multiple of ``inputs``; 1 leaves the expansion out.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        expand = conv_norm(inputs, hidden, 1, activation=True) if expansion > 1 else []
        depthwise = conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden, activation=True)
        self.layers = nn.Sequential(*expand, *depthwise, *conv_norm(hidden, outputs, 1, activation=False))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, ceil(h / stride), ceil(w / stride))."""
        found: Tensor = self.layers(features)
        return features + found if self.residual else found


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: bool
) -> list[nn.Module]:
    """Return the layers of a convolution with ``same`` padding, batch norm and, if asked for, ReLU6."""
    pad: list[nn.Module] = [SamePad(kernel)] if stride == 2 else []
    inner = 0 if pad else kernel // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, inner, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=0.01)
    return [*pad, convolution, norm, *([nn.ReLU6()] if activation else [])]


def lite0(*, classes: int, channels: int, size: tuple[int, int], dropout: float | None) -> nn.Module:
    """Return EfficientNet-Lite0 with random weights.

    It takes normalised float (n, channels, height, width) and returns logits (n, classes).

    Args:
        classes: Number of logits.
        channels: 1 or 3.
        size: (height, width) in pixels.
        dropout: Probability of the dropout before the last layer; None for :data:`DROPOUT`.

    Raises:
        ConfigError: a side is shorter than :data:`MIN_SIDE` pixels.
    """
    if min(size) < MIN_SIDE:
        raise ConfigError(f"lite0 takes pictures of at least {MIN_SIDE} pixels a side, not {size[0]} x {size[1]}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*conv_norm(channels, STEM, 3, stride=2, activation=True))
    inputs = STEM
    for number, (repeats, kernel, stride, expansion, outputs) in enumerate(STAGES, start=1):
        blocks = []
        for repeat in range(repeats):
            own = stride if repeat == 0 else 1
            blocks.append(Block(inputs, outputs, kernel=kernel, stride=own, expansion=expansion))
            inputs = outputs
        layers[f"stage{number}"] = nn.Sequential(*blocks)
    layers["final"] = nn.Sequential(*conv_norm(inputs, HEAD, 1, activation=True))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(DROPOUT if dropout is None else dropout)
    layers["head"] = nn.Linear(HEAD, classes)
    network = nn.Sequential(layers)
    _init(network)
    return network


@torch.no_grad()
def _init(network: nn.Module) -> None:
    """Draw the weights of the convolutions so that variances are kept (He et al., 2015, arXiv:1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
