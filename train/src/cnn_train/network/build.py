"""Networks by name: one of our presets, lite0, or a torchvision classification model adapted to the model contract."""

from __future__ import annotations

import difflib
import warnings

import torch
import torchvision
from torch import nn

from cnn_train.errors import ConfigError
from cnn_train.network.lite import LITE0, lite0
from cnn_train.network.presets import PRESETS, preset
from cnn_train.network.pretrained import check_pretrained, first_convolution


def build(name: str, *, classes: int, channels: int, size: tuple[int, int], dropout: float | None) -> nn.Module:
    """Return a network with random weights, drawn from torch's global generator.

    It takes normalised float (n, channels, height, width) and returns logits (n, classes).

    Args:
        name: A preset, ``lite0``, or a torchvision classification model.
        classes: Number of logits.
        channels: 1 or 3.
        size: (height, width) in pixels.
        dropout: Probability of the dropout layers; None keeps that of the architecture.

    Raises:
        ConfigError: the model is unknown, or cannot satisfy the contract for the reason in the message.
    """
    if name in PRESETS:
        return preset(name, classes=classes, channels=channels, size=size, dropout=dropout or 0.0)
    if name == LITE0:
        return lite0(classes=classes, channels=channels, size=size, dropout=dropout)
    network = _torchvision(name, classes=classes)
    _set_channels(name, network, channels)
    if dropout is not None:
        _set_dropout(name, network, dropout)
    _check_forward(name, network, classes, channels, size)
    return network


def check_model(name: str, *, pretrained: bool, dropout: float | None, size: tuple[int, int] | None) -> None:
    """Refuse a model, or options that it does not support, before the data set is opened.

    Args:
        name: A preset, ``lite0``, or a torchvision classification model.
        pretrained: Whether pretrained weights will be loaded.
        dropout: As for :func:`build`.
        size: (height, width) in pixels; None if it depends on the data.

    Raises:
        ConfigError: as for :func:`build` and :func:`cnn_train.network.pretrained.check_pretrained`.
    """
    if pretrained:
        check_pretrained(name)
    if size is not None:  # the numbers of classes and channels do not matter
        build(name, classes=2, channels=3, size=size, dropout=dropout)
    elif name not in (*PRESETS, LITE0):
        network = _torchvision(name, classes=2)
        if dropout is not None:
            _set_dropout(name, network, dropout)


def _torchvision(name: str, *, classes: int) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, [*PRESETS, LITE0, *known], 3)
        meant = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ConfigError(
            f"unknown model {name!r}{meant}: one of {', '.join((*PRESETS, LITE0))}, or a torchvision classification "
            "model"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # two models warn of a future change of their initialisation
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _set_channels(name: str, network: nn.Module, channels: int) -> None:
    path, old = first_convolution(name, network)
    if old.in_channels == channels:
        return
    settings = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    parent, _, last = path.rpartition(".")
    new = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **settings)
    setattr(network.get_submodule(parent), last, new)


def _set_dropout(name: str, network: nn.Module, probability: float) -> None:
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if not layers and probability:
        raise ConfigError(f"{name} has no dropout layer: leave --dropout out")
    for layer in layers:
        layer.p = probability


def _check_forward(name: str, network: nn.Module, classes: int, channels: int, size: tuple[int, int]) -> None:
    """Refuse a network that does not accept the picture size or does not return one tensor, before it is trained."""
    state = {key: value.clone() for key, value in network.state_dict().items()}
    try:
        with torch.no_grad():
            found = network.train()(torch.zeros(2, channels, *size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{name} does not take pictures of {size[0]} x {size[1]} ({reason}): pass another --size"
        ) from error
    if not isinstance(found, torch.Tensor) or found.shape != (2, classes):
        raise ConfigError(
            f"{name} does not return one tensor of (batch, classes), so it cannot keep the model contract"
        )
    try:
        network.load_state_dict(state)
    except ValueError as error:
        raise ConfigError(f"{name} cannot be stored as plain weights ({error})") from error
