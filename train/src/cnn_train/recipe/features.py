"""Features of a pretrained network: what its last layer sees. They are computed once and kept in the cache."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cnn_infer.console import progress
from cnn_infer.paths.naming import printable
from cnn_infer.spec import Spec
from cnn_infer.system.atomic import write_bytes
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_train import distributed
from cnn_train.data.decode_cache import mark_used
from cnn_train.errors import DataError
from cnn_train.metrics import pixel_digest
from cnn_train.network.logits import EVALUATION_PIXELS, autocast, to_input
from cnn_train.recipe.augment import augment

FORMAT = 1


@dataclass(frozen=True)
class Extractor:
    """How features are computed.

    Attributes:
        network: On ``device``; its last layer does not matter.
        spec: Normalisation of the pictures.
        precision: Floating-point type that convolutions compute in.
        device: Where to compute.
        cache: Folder that keeps the features.
        after_batch: Called after each batch.
    """

    network: nn.Module
    spec: Spec
    precision: torch.dtype
    device: torch.device
    cache: Path
    after_batch: Callable[[], None]

    def features(
        self, pictures: NDArray[np.uint8], name: str, *, views: int = 1, names: Sequence[str] = (), seed: int = 0
    ) -> NDArray[np.float16]:
        """Return the features of pictures and of augmented copies of them, from the cache if they are in it.

        With several processes each one computes a part; the main process writes the cache.

        Args:
            pictures: uint8 (n, h, w, c).
            name: Name of the split, for the progress bar.
            views: Copies of each picture. The first one is the picture itself, the others are augmented.
            names: Augmentations, as for :func:`cnn_train.recipe.augment.augment`.
            seed: Random seed of the augmentations.

        Returns:
            float16 (views * n, features), memory-mapped and read-only: all pictures, then all of the second view.

        Raises:
            DataError: the cache cannot be written.
        """
        path = self.cache / f"features-{self._key(pictures, views, names, seed)}.npy"
        found = distributed.compute_on_main(lambda: _load(path, views * len(pictures)) is not None)
        if not found:
            computed = self._compute(pictures, name, views, names, seed)
            if distributed.is_main_process():
                _store(path, computed)
            distributed.barrier()
        loaded = _load(path, views * len(pictures))
        if loaded is None:
            raise DataError(f"the features in {printable(path)} cannot be read back: use another --cache")
        return loaded

    def _key(self, pictures: NDArray[np.uint8], views: int, names: Sequence[str], seed: int) -> str:
        """32 hexadecimal digits that depend on the pixels, the weights, and on how the features are computed."""
        digest = hashlib.sha256(pixel_digest(pictures).encode())
        layer = last_layer(self.network)[0]
        for key, value in self.network.state_dict().items():
            if not key.startswith(f"{layer}."):
                digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        augmented = [views, list(names), seed] if views > 1 else []
        how = [FORMAT, str(self.precision), self.device.type, self.spec.zero_point, self.spec.scale, augmented]
        digest.update(json.dumps([*how, torch.__version__]).encode())
        return digest.hexdigest()[:32]

    @torch.no_grad()
    def _compute(
        self, pictures: NDArray[np.uint8], name: str, views: int, names: Sequence[str], seed: int
    ) -> NDArray[np.float16]:
        self.network.eval()
        own = pictures[distributed.shard(len(pictures))]
        shown = progress(f"features of {name}", views * len(own)) if distributed.is_main_process() else nullcontext()
        with shown as advance, _without_last_layer(self.network):
            found = [self._view(own, view, names, seed, advance) for view in range(views)]
        result: NDArray[np.float16] = torch.cat(found).numpy()
        return result

    def _view(
        self,
        pictures: NDArray[np.uint8],
        view: int,
        names: Sequence[str],
        seed: int,
        advance: Callable[[int], None] | None,
    ) -> Tensor:
        """The features of one view of each picture, float16 (n, features), from all processes."""
        count = max(1, EVALUATION_PIXELS // (pictures.shape[1] * pictures.shape[2]))
        generator = _generator(self.device, seed, view)
        parts = []
        for start in range(0, len(pictures), count):
            batch = to_input(pictures[start : start + count], self.spec, self.device)
            if view:
                batch = augment(batch, names, generator)
            with autocast(self.device, self.precision):
                parts.append(self.network(batch).flatten(1).half().cpu())
            if advance:
                advance(len(batch))
            self.after_batch()
        return distributed.all_gather(torch.cat(parts))


def last_layer(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the layer that computes the logits, and its name: fully connected, or (SqueezeNet) a convolution."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return layers[-1]


@contextmanager
def _without_last_layer(network: nn.Module) -> Iterator[None]:
    """Make a network return what its last layer would see. What follows a convolution, such as a mean, is applied."""
    name, layer = last_layer(network)
    network.set_submodule(name, nn.Identity())
    try:
        yield
    finally:
        network.set_submodule(name, layer)


def _generator(device: torch.device, seed: int, view: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, view, distributed.rank()]).generate_state(1)
    return torch.Generator(device).manual_seed(int(entropy[0]))


def _store(path: Path, features: NDArray[np.float16]) -> None:
    stream = io.BytesIO()
    np.save(stream, features, allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, stream.getvalue())
    except OSError as error:
        raise DataError(
            f"cannot write the features {printable(path)}: {error.strerror or error}: free some space, or name another "
            "folder with --cache"
        ) from error


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
