"""From decoded pictures to the input of a network, and on to its logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnn_train import distributed

EVALUATION_PIXELS = 1 << 19
"""Pixels per evaluation batch: some hundreds of small pictures, or ten of 224 x 224."""


def to_input(pictures: NDArray[np.uint8], spec: Spec, device: torch.device) -> Tensor:
    """Normalise pictures: uint8 (n, h, w, c) to float32 (n, c, h, w) on ``device``, in channels-last memory format."""
    # copied, because PyTorch does not accept the read-only memory of the cache
    pixels = torch.from_numpy(np.array(pictures)).to(device)
    return (pixels.permute(0, 3, 1, 2).float() - spec.zero_point) * spec.scale


def resize(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize float (n, c, h, w) to (n, c, *size), bilinear and antialiased; return a batch of that size unchanged."""
    if batch.shape[2:] == size:
        return batch
    result = functional.interpolate(batch, size, mode="bilinear", antialias=True)
    return result.contiguous(memory_format=torch.channels_last)


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Return a context in which convolutions and matrix products compute in ``precision``."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


@contextmanager
def full_precision() -> Iterator[None]:
    """Make cuDNN compute fp32 convolutions in fp32: by default it rounds their inputs to TF32."""
    cudnn = torch.backends.cudnn
    # passed on, because the defaults of flags() would turn cuDNN off
    with cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):
        yield


@torch.no_grad()
def outputs_of(
    network: nn.Module,
    pictures: NDArray[np.uint8],
    spec: Spec,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    *,
    size: tuple[int, int] | None = None,
    mirrored: bool = False,
) -> Iterator[Tensor]:
    """Yield what a network returns for pictures, in batches of :data:`EVALUATION_PIXELS`. It stays in evaluation mode.

    Args:
        network: On ``device``.
        pictures: uint8 (n, h, w, c).
        spec: Normalisation.
        device: Where to compute.
        precision: Floating-point type that convolutions compute in.
        size: (height, width) to resize the normalised pictures to; None leaves them as they are.
        mirrored: Whether to mirror the pictures, left to right.

    Yields:
        On ``device``, (k, ...), in the order of the pictures.
    """
    network.eval()
    count = max(1, EVALUATION_PIXELS // (pictures.shape[1] * pictures.shape[2]))
    for start in range(0, len(pictures), count):
        with autocast(device, precision), full_precision():
            batch = to_input(pictures[start : start + count], spec, device)
            batch = batch if size is None else resize(batch, size)
            result: Tensor = network(batch.flip(3) if mirrored else batch)
        yield result


@torch.no_grad()
def logits_of(
    network: nn.Module,
    pictures: NDArray[np.uint8],
    spec: Spec,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Compute the logits of pictures in evaluation mode. Leaves the network in evaluation mode.

    With several processes, each one computes a part, and all of them get all logits.

    Args:
        network: On ``device``.
        pictures: uint8 (n, h, w, c).
        spec: Normalisation and classes.
        device: Where to compute.
        precision: Floating-point type that convolutions compute in.
        size: (height, width) to resize the normalised pictures to; None leaves them as they are.

    Returns:
        Logits at temperature 1, float32 (n, classes).
    """
    own = pictures[distributed.shard(len(pictures))]
    # allocated at once: small results between the large buffers of the batches would fragment the memory
    found, start = torch.empty((len(own), len(spec.classes))), 0
    for logits in outputs_of(network, own, spec, device, precision, size=size):
        found[start : start + len(logits)] = logits
        start += len(logits)
    result: NDArray[np.float32] = distributed.all_gather(found).numpy()
    return result
