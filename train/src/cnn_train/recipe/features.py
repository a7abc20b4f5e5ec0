"""Features of a network: what its last layer sees. Those of pretrained weights are kept in the cache."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cnn_infer.console import progress
from cnn_infer.paths.naming import printable
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import nn

from cnn_train import distributed
from cnn_train.data.decode_cache import mark_used, write_file
from cnn_train.errors import DataError
from cnn_train.metrics import pixel_digest
from cnn_train.network.logits import outputs_of

FORMAT = 2


@dataclass(frozen=True)
class Extractor:
    """How features are computed.

    Attributes:
        network: On ``device``; its last layer does not matter.
        spec: Normalisation of the pictures.
        precision: Floating-point type that convolutions compute in.
        device: Where to compute.
        cache: Folder that keeps the features; None computes them each time.
        after_batch: Called after each batch.
    """

    network: nn.Module
    spec: Spec
    precision: torch.dtype
    device: torch.device
    cache: Path | None
    after_batch: Callable[[], None]

    def features(self, pictures: NDArray[np.uint8], name: str, *, mirrored: bool = False) -> NDArray[np.float16]:
        """Return the features of pictures, from the cache if there is one and they are in it.

        With several processes each one computes a part. Each node keeps them in its cache.

        Args:
            pictures: uint8 (n, h, w, c).
            name: Name of the split, for the progress bar.
            mirrored: Whether the features of the mirrored pictures, left to right, follow.

        Returns:
            float16 (n, features) or (2 * n, features); from the cache memory-mapped and read-only.

        Raises:
            DataError: the cache cannot be written.
        """
        if self.cache is None:
            return self._compute(pictures, name, mirrored)
        rows = (1 + mirrored) * len(pictures)
        path = self.cache / f"features-{self._key(pictures, mirrored)}.npy"
        lacking = distributed.all_reduce(torch.tensor(int(_load(path, rows) is None)))
        if lacking:
            computed = self._compute(pictures, name, mirrored)
            with distributed.main_process_first():
                if _load(path, rows) is None:
                    stream = io.BytesIO()
                    np.save(stream, computed, allow_pickle=False)
                    write_file(path, stream.getvalue(), "features")
        loaded = _load(path, rows)
        if loaded is None:
            raise DataError(f"the features in {printable(path)} cannot be read back: use another --cache")
        return loaded

    def _key(self, pictures: NDArray[np.uint8], mirrored: bool) -> str:
        """32 hexadecimal digits that depend on the pixels, the weights, and on how the features are computed."""
        how = [FORMAT, str(self.precision), self.device.type, self.spec.zero_point, self.spec.scale, mirrored]
        parts = [pixel_digest(pictures), weights_digest(self.network), *how, torch.__version__]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def _compute(self, pictures: NDArray[np.uint8], name: str, mirrored: bool) -> NDArray[np.float16]:
        own = pictures[distributed.shard(len(pictures))]
        found, layer = [], last_layer(self.network)[1]
        width = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        rows = (1 + mirrored) * len(own)
        shown = progress(f"features of {name}", rows) if distributed.is_main_process() else nullcontext()
        with shown as advance, _without_last_layer(self.network):
            for flip in (False, True)[: 1 + mirrored]:
                parts = [torch.empty(0, width, dtype=torch.half)]  # a process may have no pictures
                for batch in outputs_of(self.network, own, self.spec, self.device, self.precision, mirrored=flip):
                    parts.append(batch.flatten(1).half().cpu())
                    if advance:
                        advance(len(batch))
                    self.after_batch()
                found.append(distributed.all_gather(torch.cat(parts)))
        result: NDArray[np.float16] = torch.cat(found).numpy()
        return result


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the layer that computes the logits, and its name: fully connected, or (SqueezeNet) a convolution."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return layers[-1]


def weights_digest(network: nn.Module) -> str:
    """Return the SHA-256 of all weights but those of the last layer, hexadecimal."""
    digest, layer = hashlib.sha256(), last_layer(network)[0]
    for key, value in network.state_dict().items():
        if not key.startswith(f"{layer}."):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _without_last_layer(network: nn.Module) -> Iterator[None]:
    """Make a network return what its last layer would see. What follows a convolution, such as a mean, is applied."""
    name, layer = last_layer(network)
    network.set_submodule(name, nn.Identity())
    try:
        yield
    finally:
        network.set_submodule(name, layer)


def _load(path: Path, rows: int) -> NDArray[np.float16] | None:
    """The features, or None if the file is missing or damaged."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if found.ndim != 2 or len(found) != rows or found.dtype != np.float16:
        return None
    mark_used(path)
    result: NDArray[np.float16] = found
    return result
