"""Pretrained weights, first frozen, then all trained: a last layer that starts at random would spoil what they know.

First the last layer alone, then everything at a lower rate (Kumar et al., 2022, "Fine-Tuning can Distort Pretrained
Features", arXiv:2202.10054). Which of the two an epoch is in follows from its number.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn_train.config import Config

FROZEN_SHARE = 0.2
"""Share of the epochs in which only the last layer learns."""

LOWER_RATE = 0.1
"""Factor on the learning rate when all layers learn."""


def frozen_epochs(config: Config) -> int:
    """Epochs at the beginning in which only the last layer learns; 0 without pretrained weights."""
    return max(1, round(FROZEN_SHARE * config.epochs)) if config.pretrained and config.epochs > 1 else 0


def set_mode(network: nn.Module, config: Config, number: int) -> float:
    """Put a network into training mode for one epoch, with what is frozen in it.

    Frozen are the parameters of all layers but the last, by ``requires_grad``, and the statistics of batch norms.

    Args:
        network: Any.
        config: The recipe's numbers.
        number: Of the epoch, from 0.

    Returns:
        A factor on the learning rate.
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
    """In torchvision's networks a fully connected one, or (SqueezeNet) a convolution."""
    return [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
