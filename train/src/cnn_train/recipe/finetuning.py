"""Fine-tuning of pretrained weights: the last layer first, then the last stages, then all layers.

The first epoch fits the last layer alone (:mod:`cnn_train.recipe.last_layer`). From then on the learning rate rises
from layer to layer, because the first layers, which find edges and textures, need to change less than the last ones,
and the norms keep the statistics of ImageNet (Howard and Ruder, 2018, arXiv:1801.06146, for the order and the rates).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn_train.config import Config

LATE_SHARE = 0.3
"""Share of the epochs with fine-tuning, at the beginning, in which only the last half of the parameters learns."""

LOWEST_RATE, LEVELS = 0.1, 10
"""Learning rate of the first layer as a part of that of the last; number of steps from one to the other."""


def frozen_epochs(config: Config) -> int:
    """The number of epochs, at the beginning, that only fit the last layer: 1 with pretrained weights, else 0."""
    return 1 if config.pretrained else 0


def layer_rates(network: nn.Module) -> dict[Tensor, float]:
    """Return the factor of the learning rate for each parameter: from :data:`LOWEST_RATE` to 1, rising with depth.

    Depth is the position among all parameters, in the order in which the network defines them.
    """
    parameters = list(network.parameters())
    last = max(1, len(parameters) - 1)
    levels = (round(LEVELS * position / last) / LEVELS for position in range(len(parameters)))
    return {parameter: LOWEST_RATE ** (1 - level) for parameter, level in zip(parameters, levels, strict=True)}


def set_train_mode(network: nn.Module, config: Config, number: int) -> None:
    """Put a network into training mode for one epoch, and freeze what does not learn in it.

    With pretrained weights all batch norms keep their running statistics, and the first half of the parameters has
    ``requires_grad`` unset in the first epochs that fine-tune.

    Args:
        network: Any network.
        config: The settings of the training.
        number: Number of the epoch, from 0.
    """
    network.train()
    if not config.pretrained:
        return
    first = frozen_epochs(config)
    late_only = number - first < round(LATE_SHARE * (config.epochs - first))
    parameters = list(network.parameters())
    for position, parameter in enumerate(parameters):
        parameter.requires_grad_(not late_only or position >= len(parameters) // 2)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
