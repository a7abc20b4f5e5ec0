"""The training recipe, to be read from top to bottom.

An epoch is one pass over the training pictures. For each epoch:

1. Choose the pictures and shuffle them (:mod:`cnn_train.recipe.sampling`). Large data sets skip easy pictures.
2. Choose the picture size (:mod:`cnn_train.recipe.resizing`). Our own networks and pretrained ``lite0`` see smaller
   pictures in some epochs.
3. For each batch: normalise, augment (:mod:`cnn_train.recipe.augment`), compute the loss and its gradients, and take
   one step of the optimizer. Muon updates the filters of convolutions, SGD everything else. With a teacher its
   probabilities are part of the loss (:mod:`cnn_train.recipe.distillation`).
4. The learning rate rises for the first steps of the training, then falls to zero.
5. Measure loss and accuracy on the validation pictures.

All random numbers of an epoch derive from the random seed and the number of the epoch. So a training that resumes from
a checkpoint reaches the same weights as one that was never interrupted: bit for bit, on the same machine with the same
number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.data.dataset import Split
from cnn_train.errors import ConfigError, DivergedError
from cnn_train.metrics import calibrated_loss
from cnn_train.network.logits import autocast, logits_of, resize, to_input
from cnn_train.recipe.augment import augment
from cnn_train.recipe.distillation import SHARE, Teacher, distillation_loss
from cnn_train.recipe.finetuning import learning_epochs, set_train_mode
from cnn_train.recipe.optimizer import make_optimizer
from cnn_train.recipe.resizing import picture_size
from cnn_train.recipe.sampling import epoch_order

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""

SELECT_FROM, SHOW_ALL = 10_000, 0.15
"""Data sets with at least 10,000 training pictures skip easy ones, except in the first epoch that learns and in the
last 15% of them."""


@dataclass(frozen=True)
class Epoch:
    """The measurements of one epoch: one line of ``metrics.jsonl``.

    Losses are cross-entropies in nats, without label smoothing and at temperature 1 unless stated. Accuracies are from
    0 to 1.

    Attributes:
        epoch: Number of the epoch, from 1.
        pictures: Number of training pictures shown. If easy pictures were skipped, the ``train_*`` values are those
            of the harder rest.
        height: Rows of the pictures in training and validation, in pixels.
        width: Columns of the same.
        train_loss: Training loss on the augmented pictures, measured while the weights change.
        train_accuracy: Training accuracy, measured in the same way.
        val_loss: Validation loss after the epoch. It grows with overconfidence, even while the accuracy improves.
        val_accuracy: Validation accuracy after the epoch.
        val_calibrated_loss: Validation loss at its best temperature. It decides which epoch is best. The finished model
            gets that temperature too, unless it lies at the end of the range that is searched: then it gets 1.
        lr: Learning rate of the last step; 0 for an epoch that fits the last layer of pretrained weights.
        images_per_second: Training pictures per second, without the validation.
        seconds: Duration, with the validation.
        val_calibrated_error: Standard error of ``val_calibrated_loss``, for an epoch that fits the last layer; else 0.
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
    val_calibrated_error: float = 0.0


class Fit:
    """The state of a training: network, optimizer, and the latest loss of each training picture.

    Args:
        network: Already on its device, in channels-last memory format.
        train: Training pictures.
        val: Validation pictures.
        spec: Classes, normalisation and final size.
        config: The settings of the training.
        precision: Floating-point type that convolutions compute in.
        teacher: The network whose probabilities are learned besides the labels, if any.

    Raises:
        ConfigError: there are too many processes for the number of pictures or the batch size.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Split,
        val: Split,
        spec: Spec,
        config: Config,
        precision: torch.dtype,
        teacher: Teacher | None = None,
    ) -> None:
        self.network = network
        self.train = train
        self.val = val
        self.spec = spec
        self.config = config
        self.precision = precision
        self.teacher = teacher
        self.device = next(network.parameters()).device
        self.optimizer = make_optimizer(network, config, precision)
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.losses = torch.zeros(len(train.labels))
        # Small gradients underflow in fp16, so the loss is scaled up. For other types the scaler does nothing.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == torch.float16)
        # Batch norm needs two pictures in each process.
        processes = distributed.world_size()
        least = 2 * processes
        if processes > 1 and min(len(train.labels), config.batch_size) < least:
            raise ConfigError(f"{processes} processes need batches of at least {least} pictures: start fewer")
        self.steps_per_epoch = min(math.ceil(len(train.labels) / config.batch_size), len(train.labels) // least)

    def epoch(self, number: int, advance: Callable[[int], None] = lambda _: None) -> Epoch:
        """Train one epoch and measure it.

        Args:
            number: Number of the epoch, from 0.
            advance: Called after each step with the number of pictures done.

        Raises:
            DivergedError: a loss is infinite or not a number.
        """
        start = time.perf_counter()
        generator = self._seeded_generator(number)
        order = self._choose_pictures(number)
        if skipped := len(self.train.labels) - len(order):
            advance(skipped)
        size = picture_size(self.config, number)
        set_train_mode(self.network, self.config, number)
        learning = learning_epochs(self.config)
        # wrapped in every epoch, because the set of frozen parameters may have changed
        network = distributed.data_parallel(self.network)
        # batches that differ by at most one picture, so none is so small that batch norm fails
        steps = math.ceil(len(order) * self.steps_per_epoch / len(self.train.labels))
        batches = np.array_split(order, max(1, min(steps, len(order) // (2 * distributed.world_size()))))
        losses = torch.zeros_like(self.losses)
        loss_sum = torch.zeros((), device=self.device)
        correct = torch.zeros((), device=self.device)
        for position, batch in enumerate(batches):
            # An epoch that skips pictures has fewer steps, but covers the same part of the learning rate schedule.
            step = (number - learning.start + position / len(batches)) * self.steps_per_epoch
            factor = learning_rate_factor(step, len(learning) * self.steps_per_epoch)
            rate = factor * self.config.lr
            own = batch[distributed.shard(len(batch))]  # the part of this process
            taught = self._taught(own, generator)  # first: the student's augmentation moves the generator on
            pictures, labels = self._load(own, size, generator)
            logits = self._step(network, pictures, labels, taught, factor, len(batch))
            loss = distributed.all_reduce(functional.cross_entropy(logits, labels, reduction="sum"))
            if not torch.isfinite(loss):
                raise _diverged("the loss", loss.item(), number, int(step), rate)
            losses[own] = self._loss(logits, labels, reduction="none").cpu()
            loss_sum += loss
            correct += (logits.argmax(1) == labels).sum()
            advance(len(batch))
        trained = time.perf_counter()
        self.losses[order] = distributed.all_reduce(losses)[order]
        val_loss, val_accuracy, val_calibrated_loss = self.validate(size)
        if not math.isfinite(val_loss):
            raise _diverged("the validation loss", val_loss, number, int(step), rate)
        return Epoch(
            epoch=number + 1,
            pictures=len(order),
            height=size[0],
            width=size[1],
            train_loss=loss_sum.item() / len(order),
            train_accuracy=distributed.all_reduce(correct).item() / len(order),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_calibrated_loss=val_calibrated_loss,
            lr=rate,
            images_per_second=len(order) / (trained - start),
            seconds=time.perf_counter() - start,
        )

    def _seeded_generator(self, number: int) -> torch.Generator:
        """Seed dropout, and return the generator of augmentation: different in every epoch and process."""
        entropy = [self.config.seed, number, distributed.rank()]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(seed)
        return torch.Generator(self.device).manual_seed(seed)

    def _choose_pictures(self, number: int) -> NDArray[np.int64]:
        """The positions of the pictures that an epoch shows, in order."""
        learning = learning_epochs(self.config)
        all_from = learning.stop - math.ceil(SHOW_ALL * len(learning))
        many = len(self.train.labels) >= SELECT_FROM
        skips = many and not self.config.balance and learning.start < number < all_from
        losses = self.losses.numpy() if skips else None
        return epoch_order(self.train.labels, self.config.seed, number, balance=self.config.balance, losses=losses)

    def _taught(self, positions: NDArray[np.int64], generator: torch.Generator) -> Tensor | None:
        """The teacher's logits of the pictures as ``generator`` will augment them; None without a teacher."""
        if self.teacher is None:
            return None
        same = torch.Generator(self.device).set_state(generator.get_state())
        return self.teacher.logits(positions, self.spec, self.config.augment, same, self.precision)

    @torch.no_grad()
    def _load(
        self, positions: NDArray[np.int64], size: tuple[int, int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Normalised and augmented pictures, float32 (n, c, *size), and their labels, int64 (n,), on the device."""
        labels = torch.from_numpy(self.train.labels[positions]).to(self.device)
        pictures = to_input(self.train.images[positions], self.spec, self.device)
        return resize(augment(pictures, self.config.augment, generator), size), labels

    def _loss(self, logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
        smoothing = self.config.label_smoothing
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction=reduction)

    def _step(
        self,
        network: nn.Module,
        pictures: Tensor,
        labels: Tensor,
        taught: Tensor | None,
        factor: float,
        batch_size: int,
    ) -> Tensor:
        """Take one step on this process's part of a batch, at ``factor`` times the peak rates; return its logits."""
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = factor * peak
        with autocast(self.device, self.precision):
            logits: Tensor = network(pictures)
        logits = logits.float()
        loss = self._loss(logits, labels, reduction="mean")
        if taught is not None:
            loss = (1 - SHARE) * loss + SHARE * distillation_loss(logits, taught)
        if len(pictures) != batch_size:  # gradients are averaged over processes, whose parts may differ in size
            loss = loss * (len(pictures) * distributed.world_size() / batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        distributed.average_statistics(self.network.buffers())
        return logits.detach()

    def validate(self, size: tuple[int, int]) -> tuple[float, float, float]:
        """Return loss, accuracy, and loss at the best temperature, on validation pictures of ``size``, in pixels."""
        logits = logits_of(self.network, self.val.images, self.spec, self.device, self.precision, size)
        scores, labels = torch.from_numpy(logits), torch.from_numpy(self.val.labels)
        loss = functional.cross_entropy(scores, labels).item()
        accuracy = (scores.argmax(1) == labels).float().mean().item()
        return loss, accuracy, calibrated_loss(logits, self.val.labels) if math.isfinite(loss) else loss


def learning_rate_factor(step: float, steps: int) -> float:
    """The learning rate of ``step``, from 0, out of ``steps``, as a share of its peak: above 0 to 1.

    It rises linearly over the first 5% of the steps, then falls linearly to zero: one cycle (Smith and Topin, 2018,
    arXiv:1708.07120).
    """
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return min(1.0, (step + 1) / rising)
    return (steps - step) / (steps - rising + 1)


def _diverged(what: str, value: float, number: int, step: int, rate: float) -> DivergedError:
    return DivergedError(
        f"{what} is {value} at epoch {number + 1}, step {step + 1}, learning rate {rate:.4g}: "
        "lower --lr or --weight-decay, or train with --precision fp32 if that is not set"
    )
