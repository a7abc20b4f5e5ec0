"""From decoded pictures to what a network takes, and to what it says of them."""

from __future__ import annotations

import numpy as np
import torch
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnn_train import distributed

EVALUATION_PIXELS = 1 << 19
"""Pixels to a batch of evaluation: some hundreds of small pictures, ten of 224 x 224."""


def to_input(pictures: NDArray[np.uint8], spec: Spec, device: torch.device) -> Tensor:
    """uint8 (n, h, w, c) to the network's input: float32 (n, c, h, w), channels last in memory."""
    # a copy, at most of one batch: PyTorch does not take the read-only memory of a cache
    pixels = torch.from_numpy(np.array(pictures)).to(device)
    return (pixels.permute(0, 3, 1, 2).float() - spec.zero_point) * spec.scale


def resized(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """float (n, c, h, w) to (n, c, *size), antialiased; the batch itself where it has that size."""
    if batch.shape[2:] == size:
        return batch
    smaller = functional.interpolate(batch, size, mode="bilinear", antialias=True)
    return smaller.contiguous(memory_format=torch.channels_last)


def mixed(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Where convolutions compute in ``precision``."""
    return torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


@torch.no_grad()
def logits_of(
    network: nn.Module,
    pictures: NDArray[np.uint8],
    spec: Spec,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    size: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Logits at temperature 1, float32 (n, classes), for uint8 ``pictures`` (n, h, w, c), computed in ``precision``.

    Where a ``size`` (height, width) is given, the normalised pictures are brought to it. Several processes compute a
    share each, and all get all: every picture counts once.
    """
    network.eval()
    count = max(1, EVALUATION_PIXELS // (pictures.shape[1] * pictures.shape[2]))
    own = pictures[distributed.shard(len(pictures))]
    # one block for all: pieces that stay lie between the large blocks of each batch, which then fit in nowhere
    found = torch.empty((len(own), len(spec.classes)))
    # cuDNN would round fp32 convolutions to TF32
    with mixed(device, precision), torch.backends.cudnn.flags(allow_tf32=False):
        for start in range(0, len(own), count):
            batch = to_input(own[start : start + count], spec, device)
            found[start : start + count] = network(batch if size is None else resized(batch, size))
    result: NDArray[np.float32] = distributed.all_gather(found).numpy()
    return result
