"""Networks by name: one of our presets, or a torchvision classification model adapted to the model contract."""

from __future__ import annotations

import difflib
import pickle
import warnings
from typing import Any

import torch
import torchvision
from cnn_infer.console import library_output
from torch import nn

from cnn_train.errors import ConfigError
from cnn_train.network.presets import PRESETS, preset


def build(name: str, *, classes: int, channels: int, size: tuple[int, int], dropout: float | None) -> nn.Module:
    """Return a network with random weights, drawn from torch's global generator.

    It takes normalised float (n, channels, height, width) and returns logits (n, classes).

    Args:
        name: A preset or a torchvision classification model.
        classes: Number of logits.
        channels: 1 or 3.
        size: (height, width) in pixels.
        dropout: Probability of the dropout layers; None keeps that of the architecture.

    Raises:
        ConfigError: the model is unknown, or cannot satisfy the contract for the reason in the message.
    """
    if name in PRESETS:
        return preset(name, classes=classes, channels=channels, size=size, dropout=dropout or 0.0)
    network = _torchvision(name, classes=classes)
    _set_channels(name, network, channels)
    if dropout is not None:
        _set_dropout(name, network, dropout)
    _check_forward(name, network, classes, channels, size)
    return network


def check_model(name: str, *, pretrained: bool, dropout: float | None, size: tuple[int, int] | None) -> None:
    """Refuse a model, or options that it does not support, before the data set is opened.

    Args:
        name: A preset or a torchvision classification model.
        pretrained: Whether torchvision's weights will be loaded.
        dropout: As for :func:`build`.
        size: (height, width) in pixels; None if it depends on the data.

    Raises:
        ConfigError: as for :func:`build` and :func:`load_pretrained`.
    """
    if pretrained and name in PRESETS:
        raise ConfigError(f"--pretrained needs a torchvision model; {name} is trained from scratch")
    if size is not None:  # the numbers of classes and channels do not matter
        build(name, classes=2, channels=3, size=size, dropout=dropout)
    elif name not in PRESETS:
        network = _torchvision(name, classes=2)
        if dropout is not None:
            _set_dropout(name, network, dropout)


def load_pretrained(name: str, network: nn.Module, *, zero_point: int, scale: float) -> None:
    """Load torchvision's weights into all layers of ``network`` but the last.

    The weights expect pixels normalised by a mean and standard deviation per channel, but the network receives
    ``(pixel - zero_point) * scale``. The difference is folded into the weights and bias of the first convolution. So it
    computes the same, except at the border, where padding now has the value of the zero point.

    Args:
        name: The torchvision model.
        network: From :func:`build`, changed in place.
        zero_point: Pixel value that is normalised to 0, from 0 to 255.
        scale: Factor of the normalisation.

    Raises:
        ConfigError: the model is a preset, has no weights, or its weights cannot be downloaded.
    """
    if name in PRESETS:
        raise ConfigError(f"--pretrained needs a torchvision model; {name} is trained from scratch")
    try:
        weights = torchvision.models.get_model_weights(name).DEFAULT
        with library_output():
            state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError, AttributeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"torchvision's weights of {name} cannot be fetched ({reason}): connect to a network, put the file into "
            f"{torch.hub.get_dir()}/checkpoints, or train without --pretrained"
        ) from error
    first_name, first = _first_convolution(name, network)
    own = network.state_dict()
    unknown = (
        f"{first_name}.bias",
        "num_batches_tracked",
    )  # the bias is added by us; the counter is missing from older files
    missing = [key for key in own if key not in state and not key.endswith(unknown)]
    if missing:
        raise ConfigError(f"torchvision's weights of {name} lack {missing[0]}: train it without --pretrained")
    expected = weights.transforms()  # normalises to (pixel / 255 - mean) / deviation, per channel
    mean, deviation = torch.tensor(expected.mean), torch.tensor(expected.std)
    weight = state[f"{first_name}.weight"]
    shift = (zero_point / 255 - mean) / deviation
    gain = 1 / (255 * scale * deviation)
    bias = (weight.sum(dim=(2, 3)) * shift).sum(dim=1) + state.get(f"{first_name}.bias", torch.zeros(len(weight)))
    weight = weight * gain[:, None, None]
    first.bias = nn.Parameter(bias)
    state[f"{first_name}.weight"] = weight if first.in_channels == 3 else weight.sum(dim=1, keepdim=True)
    state[f"{first_name}.bias"] = bias
    fitting = {key: value for key, value in state.items() if key not in own or own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)


def add_biases(network: nn.Module, state: dict[str, Any]) -> None:
    """Add the biases that ``state`` has and the convolutions of ``network`` lack.

    :func:`load_pretrained` added a bias to the first convolution, and the stored weights contain it.
    """
    for name, module in network.named_modules():
        bias = state.get(f"{name}.bias")
        if isinstance(module, nn.Conv2d) and module.bias is None and bias is not None:
            module.bias = nn.Parameter(torch.zeros_like(bias))


def _torchvision(name: str, *, classes: int) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, [*PRESETS, *known], 3)
        meant = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ConfigError(
            f"unknown model {name!r}{meant}: one of {', '.join(PRESETS)}, or a torchvision classification model"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # two models warn of a future change of their initialisation
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _first_convolution(name: str, network: nn.Module) -> tuple[str, nn.Conv2d]:
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module
    raise ConfigError(f"{name} has no convolution")


def _set_channels(name: str, network: nn.Module, channels: int) -> None:
    path, old = _first_convolution(name, network)
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
