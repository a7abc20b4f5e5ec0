"""Fine-tuning of pretrained weights: the last layer, then the last stages, then all layers, then the last layer again.

The first epoch fits the last layer alone (:mod:`cnn_train.recipe.last_layer`). From then on the learning rate rises
from layer to layer, because the first layers, which find edges and textures, need to change less than the last ones,
and the norms keep the statistics of ImageNet (Howard and Ruder, 2018, arXiv:1801.06146, for the order and the rates).

At the end, all weights move a quarter of the way back to where they started (Wortsman et al., 2022, "Robust fine-tuning
of zero-shot models", arXiv:2109.01903), and the last epoch fits the last layer once more, on the features of that
network. Gradient descent has classified every training picture correctly by then; both changes make it generalise
better: benchmarks/results/few_pictures.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cnn_train.config import Config

LATE_SHARE = 0.3
"""Share of the epochs with fine-tuning, at the beginning, in which only the last half of the parameters learns."""

KEPT_CHANGE = 0.75
"""Part of what the weights changed in fine-tuning that they keep at the end."""

LOWEST_RATE, LEVELS = 0.1, 10
"""Learning rate of the first layer as a part of that of the last; number of steps from one to the other."""


def fits_again(config: Config) -> bool:
    """Whether the last epoch fits the last layer again: with pretrained weights, from three epochs on.

    It does not with a teacher, whose probabilities such a fit would ignore.
    """
    return config.pretrained and config.epochs > 2 and config.teacher is None


def learning_epochs(config: Config) -> range:
    """The numbers, from 0, of the epochs that take steps of the optimizer: all that do not only fit the last layer.

    With pretrained weights the first epoch only fits it, and the last one if :func:`fits_again`.
    """
    return range(int(config.pretrained), config.epochs - fits_again(config))


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
    learning = learning_epochs(config)
    late_only = number - learning.start < round(LATE_SHARE * len(learning))
    parameters = list(network.parameters())
    for position, parameter in enumerate(parameters):
        parameter.requires_grad_(not late_only or position >= len(parameters) // 2)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@torch.no_grad()
def move_back(network: nn.Module, start: Mapping[str, Tensor]) -> None:
    """Move all weights a part of the way back, so that :data:`KEPT_CHANGE` of their change is left.

    Args:
        network: A fine-tuned network, changed in place.
        start: Its ``state_dict`` before the first epoch. Its last layer does not matter: it is fitted again.
    """
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(start[key].to(value), value, KEPT_CHANGE))
