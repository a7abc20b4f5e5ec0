"""The optimizer: which parameters learn at which rate, and with which weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cnn_train.config import Config
from cnn_train.recipe.finetuning import layer_rates
from cnn_train.recipe.muon import Muon

MOMENTUM, MUON_MOMENTUM, SGD_RATE = 0.9, 0.6, 2.5
"""Momentum of SGD and of Muon; the learning rate of SGD as a multiple of Muon's, where Muon updates the filters."""


def make_optimizer(network: nn.Module, config: Config, precision: torch.dtype) -> torch.optim.Optimizer:
    """The optimizer of the parameters that learn, with peak learning rates.

    Biases and norms have no weight decay (He et al., 2019, arXiv:1812.01187). Muon updates the filters of ordinary
    convolutions. Depthwise and grouped convolutions and fully connected layers are left to SGD. With pretrained
    weights the rates rise from the first layer to the last.
    """
    muon = config.optimizer == "muon"
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    filters: set[Tensor] = set()
    if muon:
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        filters = {module.weight for module in convolutions if module.groups == 1}
    factors = layer_rates(network) if config.pretrained else dict.fromkeys(learned, 1.0)
    rate = config.lr * (SGD_RATE if muon else 1)
    groups: list[dict[str, Any]] = []
    for factor in sorted(set(factors.values())):
        own = [parameter for parameter in learned if factors[parameter] == factor]
        weights = [parameter for parameter in own if parameter.ndim > 1 and parameter not in filters]
        vectors = [parameter for parameter in own if parameter.ndim <= 1]
        groups.append({"params": weights, "lr": factor * rate, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "lr": factor * rate, "weight_decay": 0.0})
        if muon:
            settings = {"orthogonal": True, "momentum": MUON_MOMENTUM, "weight_decay": 0.0}
            orthogonal = [parameter for parameter in own if parameter in filters]
            groups.append({"params": orthogonal, "lr": factor * config.lr, **settings})
    if muon:
        return Muon(groups, torch.bfloat16 if precision == torch.bfloat16 else torch.float32)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    return (torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam)(groups)
