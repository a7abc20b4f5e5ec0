"""The checks of a network from elsewhere: whether it can be exported as a classifier at all."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cnn_export.errors import ExportError

BATCH = 3
"""Number of random pictures that a network is tried with."""

ACCURACY = 1e-3
"""Differences of outputs below this share of the largest output count as rounding."""


def evaluation_copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU, in evaluation mode. The network itself is not changed.

    What ``torch.compile`` and data parallelism wrap around a network is left out.

    Args:
        network: The network; its parameters and floating-point buffers must be float32.

    Raises:
        ExportError: it is no module, it is one that cannot be copied, or its numbers have another type.
    """
    _check_is_module(network)
    while (inner := _inside(network)) is not None:
        network = inner
    if isinstance(network, torch.jit.ScriptModule):
        raise ExportError("a TorchScript module cannot be exported: pass the module that it was made from")
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ExportError(f"the parameter {name} of the network has no shape yet: call the network once")
        if tensor.is_meta:
            raise ExportError(f"the parameter {name} of the network has no values (meta device): load its weights")
        is_parameter = isinstance(tensor, nn.Parameter)
        if tensor.dtype != torch.float32 and (is_parameter or tensor.is_floating_point() or tensor.is_complex()):
            kind = str(tensor.dtype).removeprefix("torch.")
            advice = "convert it first, with network.float()" if tensor.is_floating_point() else "float32 is needed"
            raise ExportError(f"{name} of the network is {kind}: {advice}")
    try:
        return copy.deepcopy(network).cpu().eval()
    except Exception as error:
        raise ExportError(
            f"the network cannot be copied ({_one_line(error)}): pass a new one, with loaded weights"
        ) from error


def _check_is_module(network: object) -> None:
    if isinstance(network, nn.Module):
        return
    advice = "pass a torch.nn.Module"
    if isinstance(network, Mapping):
        raise ExportError(f"a state dict is no network: build the module, call its load_state_dict, and {advice}")
    if isinstance(network, type):
        raise ExportError(f"{network.__name__} is a class, not a network: {advice}, such as {network.__name__}()")
    raise ExportError(f"the network is of type {type(network).__name__}: {advice}")


def _inside(network: nn.Module) -> nn.Module | None:
    """The network inside a wrapper; None if it is not wrapped."""
    compiled = getattr(network, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return compiled
    if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner: nn.Module = network.module
        return inner
    return None


@torch.no_grad()
def check_classifier(network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """Check that a network computes logits of single pictures.

    It is called with random pictures: twice, and with one of them alone.

    Args:
        network: In evaluation mode; takes pixels, float32 (n, channels, height, width), 0 to 1.
        shape: Channels, height and width of a picture.
        classes: Number of logits that it must have.

    Raises:
        ExportError: it does not accept the pictures, returns something else than float32 (n, classes), returns
            probabilities, is random, or mixes the pictures of a batch.
    """
    pixels = torch.rand((BATCH, *shape), generator=torch.Generator().manual_seed(0))
    outputs = _call(network, pixels)
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise ExportError(f"the network returns {kind}, not a tensor of logits: wrap it in a module that returns them")
    found = tuple(outputs.shape)
    if len(found) != 2 or found[0] != BATCH:
        raise ExportError(f"the network returns the shape {found} for {BATCH} pictures, not ({BATCH}, {classes})")
    if found[1] != classes:
        raise ExportError(f"the network has {_outputs(found[1])}, but the data set has {classes} classes")
    if outputs.dtype != torch.float32:
        raise ExportError(f"the network returns {str(outputs.dtype).removeprefix('torch.')}, not float32")
    if not outputs.isfinite().all():
        raise ExportError("the network returns infinite values or NaN: check its weights")
    if bool((outputs >= 0).all()) and bool(((outputs.sum(dim=1) - 1).abs() < ACCURACY).all()):
        raise ExportError("the network returns probabilities: leave out the softmax at its end, to get logits")
    limit = ACCURACY * max(1.0, float(outputs.abs().max()))
    if float((_call(network, pixels) - outputs).abs().max()) > limit:
        raise ExportError("the network is random in evaluation mode, for example by functional.dropout(x)")
    if float((_call(network, pixels[:1]) - outputs[:1]).abs().max()) > limit:
        raise ExportError(
            "the output for a picture depends on the other pictures of the batch, for example by a batch norm without "
            "running statistics"
        )


def _outputs(number: int) -> str:
    return f"{number:,} output{'' if number == 1 else 's'}"


def _call(network: nn.Module, pixels: Tensor) -> Any:
    try:
        return network(pixels)
    except Exception as error:
        shape = tuple(pixels.shape)
        raise ExportError(
            f"the network does not accept pictures of the shape {shape} (batch, channels, height, width): "
            f"{_one_line(error)}; check size and colour"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
