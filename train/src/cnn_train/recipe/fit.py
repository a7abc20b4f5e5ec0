"""The recipe, top to bottom: Muon for the filters, SGD for the rest, one cycle of the learning rate.

Every epoch derives its random numbers from the seed and its own number. So a training that was cut off goes
on from its last epoch's checkpoint to the same weights, bit for bit, on one machine with one number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cnn_infer.spec import Spec
from torch import Tensor, nn
from torch.nn import functional

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.data.dataset import Split
from cnn_train.errors import ConfigError, DivergedError
from cnn_train.metrics import calibrated_loss
from cnn_train.network.logits import logits_of, mixed, resized, to_input
from cnn_train.network.presets import PRESETS
from cnn_train.recipe.augment import augment
from cnn_train.recipe.finetuning import set_mode
from cnn_train.recipe.muon import Muon
from cnn_train.recipe.sampling import epoch_order

WARM_UP = 0.05
"""Share of the steps over which the learning rate rises to its peak; then it falls to zero, both in a straight
line (one cycle: Smith and Topin, 2018, arXiv:1708.07120)."""

EARLY = 0.4
EARLY_SIZE = 0.75
LEAST_SIDE = 24
"""For that share of the epochs our own networks see pictures of that share of the size, at little more than half the
cost, where they have so many pixels a side (progressive resizing: Howard, 2018, https://www.fast.ai/posts/2018-04-30-
dawnbench-fastai.html; Tan and Le, 2021, arXiv:2104.00298)."""

SHOW_ALL = 0.15
SELECT_FROM = 10_000
"""Sets of so many training pictures leave out easy ones, but in the first epoch and in that share of the last."""

MOMENTUM = 0.9
MUON_MOMENTUM = 0.6
REST_TO_FILTERS = 2.5
"""Learning rate of SGD for what is not a filter, over that of Muon for the filters."""


@dataclass(frozen=True)
class Epoch:
    """One line of ``metrics.jsonl``. Losses are cross-entropies in nats, without smoothing, at temperature 1.

    ``train_*`` is measured on the augmented pictures while the weights change, ``val_*`` after the epoch.
    ``val_calibrated_loss`` is the validation loss at the temperature that suits it best, which a finished model gets
    too; it decides which epoch is best. The plain one grows with overconfidence, from an early epoch on that gets far
    fewer pictures right. ``height`` and ``width`` are of the pictures as they were shown, in training and validation;
    ``pictures`` says how many were shown in training: where easy ones were left out, the rest is harder.
    """

    epoch: int
    pictures: int
    height: int
    width: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_calibrated_loss: float
    lr: float
    images_per_second: float
    seconds: float


def make_optimizer(network: nn.Module, config: Config, precision: torch.dtype) -> torch.optim.Optimizer:
    """The optimizer, at its peak learning rates.

    Biases and norms, all vectors, do not decay (He et al., 2019, arXiv:1812.01187). Muon is for filters that look at
    several channels; it leaves single channels and fully connected layers to SGD.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    filters: set[Tensor] = set()
    if config.optimizer == "muon":
        convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        filters = {module.weight for module in convolutions if module.groups == 1} & set(parameters)
    rest = config.lr * (REST_TO_FILTERS if config.optimizer == "muon" else 1)
    matrices = [p for p in parameters if p.ndim > 1 and p not in filters]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "lr": rest, "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": rest, "weight_decay": 0.0},
    ]
    if config.optimizer == "muon":
        ordered = [p for p in parameters if p in filters]
        momentum = {"orthogonal": True, "momentum": MUON_MOMENTUM}
        groups.append({"params": ordered, "lr": config.lr, "weight_decay": 0.0, **momentum})
        return Muon(groups, torch.bfloat16 if precision == torch.bfloat16 else torch.float32)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
    return (torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam)(groups)


def share_of_rate(step: float, steps: int) -> float:
    """What ``step`` out of ``steps``, from 0, gets of the peak learning rate, above 0 to 1."""
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return min(1.0, (step + 1) / rising)
    return (steps - step) / (steps - rising + 1)


def size_at(number: int, epochs: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, in pixels, of what epoch ``number`` of ``epochs``, from 0, shows; early on multiples of 4."""
    if number >= round(EARLY * epochs) or min(size) < LEAST_SIDE:
        return size
    return round(size[0] * EARLY_SIZE / 4) * 4, round(size[1] * EARLY_SIZE / 4) * 4


def _no_progress(count: int) -> None:
    """Nobody watches."""


def _diverged(what: str, value: float, number: int, step: int, rate: float) -> DivergedError:
    return DivergedError(
        f"{what} is {value} at epoch {number + 1}, step {step + 1}, learning rate {rate:.4g}: "
        "lower --lr or --weight-decay, or train with --precision fp32 where that is not set"
    )


class Fit:
    """A training in progress: the network, its optimizer, and the epochs behind it.

    Args:
        network: On the device already, channels last.
        train: Training pictures.
        val: Validation pictures.
        spec: Normalisation.
        config: The recipe's numbers.
        precision: What convolutions compute in.
    """

    def __init__(
        self, network: nn.Module, train: Split, val: Split, spec: Spec, config: Config, precision: torch.dtype
    ) -> None:
        self.network = network
        self.train = train
        self.val = val
        self.spec = spec
        self.config = config
        self.precision = precision
        self.device = next(network.parameters()).device
        self.optimizer = make_optimizer(network, config, precision)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        # of each picture when it was shown last; a resumed training gets them back
        self.losses = torch.zeros(len(train.labels))
        # fp16 has too little range for small gradients; a scaler that is off passes everything through
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == torch.float16)
        # batches of equal size, within one, and no process gets a single picture, which would break batch norm
        least = 2 * distributed.world_size()
        if distributed.world_size() > 1 and min(len(train.labels), config.batch_size) < least:
            processes = distributed.world_size()
            raise ConfigError(f"{processes} processes need batches of at least {least} pictures: start fewer")
        self.steps_per_epoch = min(math.ceil(len(train.labels) / config.batch_size), len(train.labels) // least)

    def epoch(self, number: int, advance: Callable[[int], None] = _no_progress) -> Epoch:
        """Train one epoch, from 0, and measure.

        Args:
            number: Which; decides the learning rate and all random numbers.
            advance: Called with the number of pictures after each step.

        Raises:
            DivergedError: the loss is infinite or not a number.
        """
        start = time.perf_counter()
        # in the first process, 0 at the end changes nothing: its numbers are those of a process alone
        own = [self.config.seed, number, distributed.rank()]
        seed = int(np.random.SeedSequence(own).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout
        generator = torch.Generator(self.device).manual_seed(seed)
        losses = self.losses.numpy() if self._selects(number) else None
        order = epoch_order(self.train.labels, self.config.seed, number, balance=self.config.balance, losses=losses)
        if len(order) < len(self.train.labels):
            advance(len(self.train.labels) - len(order))
        batches = np.array_split(order, math.ceil(len(order) * self.steps_per_epoch / len(self.train.labels)))
        shown = torch.zeros_like(self.losses)
        size = self.spec.height, self.spec.width
        if self.config.model in PRESETS:
            size = size_at(number, self.config.epochs, size)
        factor = set_mode(self.network, self.config, number)
        network = distributed.data_parallel(self.network)  # anew, as other parameters may learn now
        loss_sum = torch.zeros((), device=self.device)
        hits = torch.zeros((), device=self.device)
        step, rate = 0.0, 0.0
        for position, chosen in enumerate(batches):
            own_part = chosen[distributed.shard(len(chosen))]
            # in steps of an epoch that shows all
            step = (number + position / len(batches)) * self.steps_per_epoch
            share = factor * share_of_rate(step, self.config.epochs * self.steps_per_epoch)
            rate = share * self.config.lr
            labels = torch.from_numpy(self.train.labels[own_part]).to(self.device)
            with torch.no_grad():
                batch = to_input(self.train.images[own_part], self.spec, self.device)
                batch = augment(batch, self.config.augment, generator)
                batch = resized(batch, size)
            logits = self._step(network, batch, labels, share, len(chosen))
            loss = distributed.all_reduce(functional.cross_entropy(logits, labels, reduction="sum"))
            if not torch.isfinite(loss):
                raise _diverged("the loss", loss.item(), number, int(step), rate)
            shown[own_part] = self._loss(logits, labels, reduction="none").cpu()
            loss_sum += loss
            hits += (logits.argmax(1) == labels).sum()
            advance(len(chosen))
        trained = time.perf_counter()
        count = len(order)
        self.losses[order] = distributed.all_reduce(shown)[order]
        val_loss, val_accuracy, val_calibrated_loss = self._validate(size)
        if not math.isfinite(val_loss):
            raise _diverged("the validation loss", val_loss, number, int(step), rate)
        return Epoch(
            epoch=number + 1,
            pictures=count,
            height=size[0],
            width=size[1],
            train_loss=loss_sum.item() / count,
            train_accuracy=distributed.all_reduce(hits).item() / count,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_calibrated_loss=val_calibrated_loss,
            lr=rate,
            images_per_second=count / (trained - start),
            seconds=time.perf_counter() - start,
        )

    def _selects(self, number: int) -> bool:
        """Whether an epoch leaves easy pictures out; balanced epochs have a choice of their own."""
        last = self.config.epochs - math.ceil(SHOW_ALL * self.config.epochs)
        return len(self.train.labels) >= SELECT_FROM and not self.config.balance and 0 < number < last

    def _loss(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        smoothing = self.config.label_smoothing
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction=reduction)

    def _step(self, network: nn.Module, batch: Tensor, labels: Tensor, share: float, count: int) -> Tensor:
        """One step on this process's part of a batch of ``count`` pictures, at a share of the peak rates."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = share * peak
        with mixed(self.device, self.precision):
            logits: Tensor = network(batch)
        logits = logits.float()
        loss = self._loss(logits, labels, reduction="mean")
        if len(batch) != count:  # the mean over shares of unequal length is to be the mean over the batch
            loss = loss * (len(batch) * distributed.world_size() / count)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        distributed.average_statistics(self.network.buffers())
        return logits.detach()

    def _validate(self, size: tuple[int, int]) -> tuple[float, float, float]:
        logits = logits_of(self.network, self.val.images, self.spec, self.device, self.precision, size)
        scores, labels = torch.from_numpy(logits), torch.from_numpy(self.val.labels)
        loss = functional.cross_entropy(scores, labels).item()
        accuracy = (scores.argmax(1) == labels).float().mean().item()
        return loss, accuracy, calibrated_loss(logits, self.val.labels) if math.isfinite(loss) else loss
