"""Training from data to a run folder: :func:`train`, which the command ``cnn-train`` calls."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from cnn_infer import console
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import CONFIG, CURVES, REPORT, RUNS, SAMPLES
from cnn_infer.spec import Spec
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn_train import distributed
from cnn_train.config import Config, resolve
from cnn_train.data.dataset import Dataset
from cnn_train.data.test_pictures import check_folder, write_test_pictures
from cnn_train.device import keep_freed_memory, pick_device, pick_precision
from cnn_train.errors import RunError
from cnn_train.metrics import uncertainty
from cnn_train.network.build import fit_biases, load_pretrained
from cnn_train.network.logits import logits_of, to_input
from cnn_train.options import Options, checked, read_options
from cnn_train.preparation import make_network, make_spec, open_dataset
from cnn_train.recipe.augment import augment
from cnn_train.recipe.finetuning import frozen_epochs
from cnn_train.recipe.fit import Epoch, Fit
from cnn_train.recipe.sampling import imbalance
from cnn_train.recipe.stopping import best_epoch, copy_weights, out_of_patience
from cnn_train.run import plots
from cnn_train.run.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cnn_train.run.folder import Run, check_out, clear, create, newest_unfinished, save_metrics, sweep
from cnn_train.run.lock import explain_failures, locked
from cnn_train.run.report import summary, write_results

log = logging.getLogger(__name__)


def _nobody_watches(_: Sequence[Epoch]) -> None:
    """The command shows its progress by itself."""


@distributed.process_group()
def train(
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    test_pictures: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Sequence[Epoch]], None] = _nobody_watches,
    **options: Unpack[Options],
) -> Run:
    """Train a network and write a run folder.

    Args:
        data: ``digits`` (the default), ``mnist``, ``fashion-mnist``, ``cifar10``, or a folder.
        out: The run folder; None makes ``runs/TIMESTAMP-DATA``.
        config: A TOML file with options; what is passed to this call wins.
        resume: Go on with the training in ``out``, or with the newest unfinished one.
        overwrite: Replace what is in ``out`` and in ``test_pictures``.
        test_pictures: Write the test split here, as PNG files in one folder a class.
        on_epoch: Called after each epoch, when it is stored, with all epochs so far; in the first process only.
        **options: See :class:`cnn_train.Options`.

    Raises:
        ConfigError: an option makes no sense.
        DataError: the data set is missing or not understood, or something would be written into it.
        RunError: the run folder is in the way, there is nothing to resume, or not enough memory.
        DivergedError: the loss became infinite or not a number; the last epoch's checkpoint is kept.
    """
    start = time.perf_counter()
    given = checked({**({} if data is None else {"data": os.fspath(data)}), **options})
    if resume:
        if config is not None:
            raise RunError("--resume goes on with the options that its run folder stores: leave out --config")
        path = Path(out) if out is not None else newest_unfinished()
        with locked(path):
            return _resume(path, given, test_pictures, on_epoch, overwrite=overwrite)
    wanted = {**(read_options(Path(config)) if config is not None else {}), **given}
    # what can be refused at once is refused before thousands of pictures are decoded
    pick_device(wanted.get("device", "auto"))
    if distributed.is_main_process() and out is not None and Path(out).is_dir():
        with locked(Path(out)):
            check_out(out, overwrite=overwrite)
    dataset = open_dataset(wanted, RUNS if out is None else out, test_pictures)
    settings = resolve(wanted, dataset)
    device, why = pick_device(settings.device)
    # what auto came to is part of what makes the weights: a resumed run must not take another
    settings = replace(settings, device=device.type, precision=pick_precision(settings.precision, device)[0])
    torch.manual_seed(settings.seed)
    spec = make_spec(settings, dataset)
    network = make_network(settings, dataset, spec)
    if settings.pretrained:
        load_pretrained(settings.model, network, zero_point=spec.zero_point, scale=spec.scale)
    if test_pictures is not None and distributed.is_main_process():
        check_folder(dataset, Path(test_pictures), overwrite=overwrite)
    path = distributed.compute_on_main(lambda: create(out, dataset.source.name))
    with locked(path), explain_failures(path):
        if distributed.is_main_process():
            check_out(path, overwrite=overwrite)
            clear(path)
            settings.save(path / CONFIG)
            if test_pictures is not None:
                write_test_pictures(dataset, Path(test_pictures), overwrite=overwrite)
        return _fit_and_report(path, settings, why, dataset, spec, network, on_epoch, start)


def _resume(
    path: Path,
    given: dict[str, Any],
    test_pictures: str | os.PathLike[str] | None,
    on_epoch: Callable[[Sequence[Epoch]], None],
    *,
    overwrite: bool,
) -> Run:
    checkpoint = load_checkpoint(path)
    if (path / REPORT).exists():
        raise RunError(f"the training in {path} is finished: nothing to resume")
    settings = Config.load(path / CONFIG)
    # what diverged needs another rate or precision
    settings = replace(settings, **{key: given.pop(key) for key in ("lr", "precision") if key in given})
    precision, _ = pick_precision(settings.precision, pick_device(settings.device)[0])
    recipe = settings = replace(settings, precision=precision)
    # a data set that has moved may be named anew, and the cache is only a place; the rest makes the weights
    settings = replace(settings, **{key: given.pop(key) for key in ("data", "data_dir", "cache") if key in given})
    if given:
        raise RunError(f"--resume goes on with the options in {path / CONFIG}: leave out {', '.join(sorted(given))}")
    dataset = open_dataset({**asdict(settings), "size": (settings.height, settings.width)}, path, test_pictures)
    if dict(dataset.fingerprints) != checkpoint.fingerprints:
        raise RunError(
            f"the data is not what the training in {path} began with: restore it, or train anew with --overwrite"
        )
    if test_pictures is not None and distributed.is_main_process():
        write_test_pictures(dataset, Path(test_pictures), overwrite=overwrite)
    spec = make_spec(settings, dataset)
    network = make_network(settings, dataset, spec)
    with explain_failures(path):
        if distributed.is_main_process():
            sweep(path)
            recipe.save(path / CONFIG)
        return _fit_and_report(path, settings, "as it began", dataset, spec, network, on_epoch, None, checkpoint)


def _fit_and_report(
    path: Path,
    settings: Config,
    why: str,
    dataset: Dataset,
    spec: Spec,
    network: nn.Module,
    on_epoch: Callable[[Sequence[Epoch]], None],
    started: float | None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    warnings: list[str] = []
    if not settings.balance and (unequal := imbalance(dataset.train.labels, spec.classes)):
        _warn(warnings, unequal)
    keep_freed_memory()
    device, _ = pick_device(settings.device)
    name, precision = pick_precision(settings.precision, device)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # the same seed gives the same weights
    weights = sum(parameter.numel() for parameter in network.parameters())
    log.info(f"model: {settings.model}, {weights:,} parameters, on {device.type} ({why}) in {name}")
    if frozen := frozen_epochs(settings):
        log.info(f"pretrained: in the first {frozen} of {settings.epochs} epochs only the last layer learns")
    if checkpoint is not None:
        fit_biases(network, checkpoint.network)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    fit = Fit(network, dataset.train, dataset.val, spec, settings, precision)
    epochs: list[Epoch] = []
    best: dict[str, Tensor] = {}
    if checkpoint is not None:
        try:
            network.load_state_dict(checkpoint.network)
            fit.optimizer.load_state_dict(checkpoint.optimizer)
            if checkpoint.scaler:  # none where the precision was another
                fit.scaler.load_state_dict(checkpoint.scaler)
            fit.losses.copy_(checkpoint.losses)
        except (RuntimeError, ValueError, KeyError) as error:
            raise RunError(f"the checkpoint in {path} is not of the training in {path / CONFIG}") from error
        epochs, best = checkpoint.epochs, checkpoint.best
    start = time.perf_counter()
    if distributed.is_main_process() and not (path / SAMPLES).exists():  # a resumed training has the same
        plots.save(plots.samples(*_augmented(fit), spec.classes), path / SAMPLES)
    _run_epochs(path, fit, dataset, epochs, best, on_epoch)
    network.load_state_dict(best)
    kept = best_epoch(epochs)
    by = f"with the lowest validation loss once calibrated ({kept.val_calibrated_loss:.4f})"
    log.info(f"kept: epoch {kept.epoch} of {len(epochs)}, {by}")
    trained = time.perf_counter()
    logits = {name: logits_of(network, dataset.splits[name].images, spec, device) for name in ("val", "test")}
    if not distributed.is_main_process():
        distributed.barrier()
        return Run(path)
    plots.save(plots.curves(epochs, kept.epoch), path / CURVES)
    report = write_results(path, network, logits, dataset, spec)
    if open_question := uncertainty(report["test"]):
        _warn(warnings, open_question)
    report.update(
        parameters=weights,
        epochs=len(epochs),
        best_epoch=kept.epoch,
        seconds=sum(epoch.seconds for epoch in epochs),
        session_seconds=time.perf_counter() - start,
        seconds_with_preparation=None if started is None else trained - started,
        device=device.type,
        precision=name,
        processes=distributed.world_size(),
        threads=torch.get_num_threads(),
        machine=machine.description(),
        unreadable=[{"path": printable(file), "reason": reason} for file, reason in dataset.unreadable],
        notes=list(dataset.source.notes),
        warnings=warnings,
    )
    write_text(path / REPORT, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    run = Run.open(path)
    for line in (summary(report["test"]), f"wrote {path}/", "next: cnn-export --quantize"):
        log.info(line)
    distributed.barrier()
    return run


def _warn(warnings: list[str], text: str) -> None:
    """Say it, and keep it for the report."""
    log.warning(text)
    warnings.append(text)


def _run_epochs(
    path: Path,
    fit: Fit,
    dataset: Dataset,
    epochs: list[Epoch],
    best: dict[str, Tensor],
    on_epoch: Callable[[Sequence[Epoch]], None],
) -> None:
    def keep(epochs: list[Epoch]) -> None:
        if distributed.is_main_process():
            state = (fit.network.state_dict(), fit.optimizer.state_dict(), fit.scaler.state_dict())
            save_checkpoint(path, Checkpoint(epochs, *state, dict(dataset.fingerprints), best, fit.losses))
            save_metrics(path, epochs)
        distributed.barrier()

    if not epochs:
        keep(epochs)  # from here on a training can be killed and gone on with
    elif distributed.is_main_process():
        save_metrics(path, epochs)  # a kill between the two files leaves it one line short
    total = fit.config.epochs
    for number in range(len(epochs), total):
        if out_of_patience(epochs, fit.config.patience, (fit.spec.height, fit.spec.width)):
            log.info(f"stopped: {fit.config.patience} epochs without a better one (--patience)")
            break
        with console.progress(f"epoch {number + 1} of {total}", len(dataset.train.labels)) as advance:
            epoch = fit.epoch(number, advance)
        epochs.append(epoch)
        if best_epoch(epochs) is epoch:
            best.update(copy_weights(fit.network))
        keep(epochs)
        log.info(
            f"epoch {epoch.epoch:>3} of {total}, {epoch.width} x {epoch.height}: "
            f"train loss {epoch.train_loss:.4f} accuracy {epoch.train_accuracy:.2%}, "
            f"validation loss {epoch.val_loss:.4f} accuracy {epoch.val_accuracy:.2%}, "
            f"lr {epoch.lr:.4f}, {epoch.images_per_second:,.0f} pictures/s"
        )
        if distributed.is_main_process():
            on_epoch(tuple(epochs))


def _augmented(fit: Fit, most: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Training pictures as the network sees them, back in pixel values."""
    chosen = np.random.default_rng(fit.config.seed).permutation(len(fit.train.labels))[:most]
    batch = to_input(fit.train.images[chosen], fit.spec, torch.device("cpu"))
    batch = augment(batch, fit.config.augment, torch.Generator().manual_seed(fit.config.seed))
    pixels = (batch / fit.spec.scale + fit.spec.zero_point).round().clamp(0, 255).byte()
    return pixels.permute(0, 2, 3, 1).numpy(), fit.train.labels[chosen]
