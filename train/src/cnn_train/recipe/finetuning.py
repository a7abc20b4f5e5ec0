"""Fine-tuning of pretrained weights: first the last layer alone, then all layers at a lower learning rate.

The last layer starts with random weights, and its large gradients would destroy pretrained features (Kumar et al.,
2022, "Fine-Tuning can Distort Pretrained Features", arXiv:2202.10054).
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn_train.config import Config

FROZEN_SHARE = 0.2
"""Share of the epochs, at the beginning, in which all layers but the last are frozen."""

LOWER_RATE = 0.1
"""Factor on the learning rate in the epochs in which all layers learn."""


def frozen_epochs(config: Config) -> int:
    """The number of epochs, at the beginning, in which only the last layer learns; 0 without pretrained weights."""
    return max(1, round(FROZEN_SHARE * config.epochs)) if config.pretrained and config.epochs > 1 else 0


def set_train_mode(network: nn.Module, config: Config, number: int) -> float:
    """Put a network into training mode for one epoch, and freeze all layers but the last if it is an early one.

    Frozen parameters have ``requires_grad`` unset, and frozen batch norms keep their running statistics.

    Args:
        network: Any network; its last fully connected or convolutional layer is never frozen.
        config: The settings of the training.
        number: Number of the epoch, from 0.

    Returns:
        The factor on the learning rate in this epoch.
    """
    network.train()
    if not config.pretrained:
        return 1.0
    frozen = number < frozen_epochs(config)
    for parameter in network.parameters():
        parameter.requires_grad_(not frozen)
    if not frozen:
        return LOWER_RATE
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    _last_layer(network).requires_grad_(True)
    return 1.0


def _last_layer(network: nn.Module) -> nn.Module:
    """The layer that computes the logits: fully connected, or (SqueezeNet) a convolution."""
    return [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
