"""Training from a data set to a run folder: :func:`train`, which the command ``cnn-train`` calls."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from cnn_infer.run_files import CHECKPOINT, CONFIG, REPORT, RUNS
from cnn_infer.spec import Spec
from torch import nn

from cnn_train import distributed
from cnn_train.config import DEFAULTS, Config, checked, read_options
from cnn_train.data.dataset import Dataset
from cnn_train.data.named_sets import check_data_dir
from cnn_train.data.test_pictures import check_folder, write_test_pictures
from cnn_train.defaults import pretrained_tip, resolve, with_absolute_paths
from cnn_train.device import Compute, pick_compute, unavailable
from cnn_train.errors import ConfigError, DataError, RunError
from cnn_train.network.build import check_model
from cnn_train.options import Options
from cnn_train.preparation import make_network, make_spec, open_dataset
from cnn_train.recipe.distillation import Teacher
from cnn_train.recipe.fit import Epoch
from cnn_train.run.checkpoint import Checkpoint, load_checkpoint
from cnn_train.run.folder import Run, check_out, clear, create, newest_unfinished, sweep
from cnn_train.run.job import claim, find_earlier
from cnn_train.run.lock import WAIT_OF_A_JOB, explain_failures, locked
from cnn_train.session import Session
from cnn_train.teacher import make_teacher, open_teacher
from cnn_train.tracking import check_log, clear_logs, logged

log = logging.getLogger(__name__)

CHANGEABLE = ("lr", "precision")
"""Options that a resumed training may change: after a divergence another value helps."""

MOVABLE = ("data", "data_dir", "cache")
"""Options that a resumed training may change without an effect on the weights: places, which may have moved."""


def ignore_epoch(_: Sequence[Epoch]) -> None:
    """Do nothing."""


@distributed.process_group()
def train(
    data: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    test_pictures: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Sequence[Epoch]], None] = ignore_epoch,
    **options: Unpack[Options],
) -> Run:
    """Train a network and write a run folder.

    Nothing is printed: messages go to the logger ``cnn_train``.

    A call that torchrun starts again with the same ``--rdzv-id`` continues the training that the first one began, and
    returns its run if it is finished.

    Args:
        data: ``digits`` (the default), ``mnist``, ``fashion-mnist``, ``cifar10``, a folder, a labels file beside the
            pictures, or an archive of a folder.
        out: The run folder. Default: ``runs/TIMESTAMP-DATA``.
        config: A TOML file with options; options passed to this call win.
        resume: Continue the training in ``out``, or the newest unfinished one in ``runs``.
        overwrite: Replace an earlier run in ``out``, and the files in ``test_pictures``.
        test_pictures: Also write the test split to this folder, as ``CLASS/NUMBER.png``.
        on_epoch: Called after each epoch, once its checkpoint is written, with all epochs so far; only in the main
            process.
        **options: The fields of :class:`cnn_train.Options`; :class:`cnn_train.Config` explains each.

    Returns:
        The finished run.

    Raises:
        ConfigError: an option is not accepted, alone or together with others.
        DataError: the data set is missing or has an unknown layout, or an output folder lies in it.
        RunError: the run folder is not empty or in use, there is nothing to resume, a file cannot be written, or
            memory ran out.
        DivergedError: the loss became infinite or not a number; the last epoch's checkpoint is kept.
        TrainingInterruptedError: Ctrl-C; the last epoch's checkpoint is kept.
    """
    called = time.perf_counter()
    given = checked({**({} if data is None else {"data": os.fspath(data)}), **options})
    if resume:
        if config is not None:
            raise RunError("--resume uses the options that the run folder stores: leave out --config")
        if overwrite and test_pictures is None:
            raise ConfigError("no effect with --resume and without --test-pictures: --overwrite")
        path = Path(out) if out is not None else newest_unfinished()
        with locked(path, wait=0 if distributed.job_id() is None else WAIT_OF_A_JOB):
            return _resume(path, given, test_pictures, on_epoch, overwrite=overwrite)
    asked = {**(read_options(Path(config)) if config is not None else {}), **given}
    command = {**asked, **({} if test_pictures is None else {"test_pictures": test_pictures})}
    if (earlier := find_earlier(out, command)) is not None:
        out, overwrite = earlier, True  # what is in the folders is of this job
        with locked(earlier, wait=WAIT_OF_A_JOB):
            if distributed.compute_on_main((earlier / REPORT).exists):
                log.info(f"the training in {earlier} is finished: another --rdzv-id of torchrun starts a new one")
                return Run.open(earlier)
            if distributed.compute_on_main((earlier / CHECKPOINT).exists):
                return _resume(earlier, {}, test_pictures, on_epoch, overwrite=True, command=command)
    wanted = {**DEFAULTS, **asked}
    compute, taught_by = check_options(wanted, out)
    check_data_dir(wanted["data"], given.get("data_dir"))
    if distributed.is_main_process() and out is not None and Path(out).is_dir():
        with locked(Path(out)):
            check_out(out, overwrite=overwrite)
    dataset = open_dataset(wanted, RUNS if out is None else out, test_pictures)
    _check_nodes(compute, dataset)
    if tip := pretrained_tip(asked, dataset):
        log.info(tip)
    # a resumed training must not pick another device or precision, because the weights depend on both
    settings = replace(resolve(wanted, dataset), device=compute.device.type, precision=compute.precision)
    made = _make(settings, dataset, compute, taught_by)
    if test_pictures is not None and distributed.is_main_process():
        check_folder(dataset, Path(test_pictures), overwrite=overwrite)
    path = distributed.compute_on_main(lambda: create(out, dataset.source.name))
    with locked(path), explain_failures(path):
        if distributed.is_main_process():
            check_out(path, overwrite=overwrite)
            clear(path)
            clear_logs(path)
        claim(path, command)
        return _run(path, settings, compute, dataset, made, test_pictures, on_epoch, called=called, overwrite=overwrite)


def check_options(wanted: Mapping[str, Any], out: str | os.PathLike[str] | None) -> tuple[Compute, Run | None]:
    """Refuse what can be refused without the data: decoding it may take long.

    Args:
        wanted: Given options, as :func:`cnn_train.config.checked` returns them, and :data:`cnn_train.config.DEFAULTS`.
        out: The run folder, if it is known.

    Returns:
        What the training computes with, and the run of its teacher, if any.

    Raises:
        ConfigError: an option is not accepted together with others, or on this machine.
        RunError: the teacher is no finished run, or ``out`` would replace it.
    """
    compute = pick_compute(wanted["device"], wanted["precision"])
    size = wanted.get("size")
    check_model(
        wanted["model"],
        pretrained=wanted["pretrained"],
        dropout=wanted.get("dropout"),
        size=(size, size) if isinstance(size, int) else size,
    )
    check_log(wanted.get("log"))
    return compute, open_teacher(wanted, out)


def _resume(
    path: Path,
    given: dict[str, Any],
    test_pictures: str | os.PathLike[str] | None,
    on_epoch: Callable[[Sequence[Epoch]], None],
    *,
    overwrite: bool,
    command: Mapping[str, Any] | None = None,
) -> Run:
    """Continue the training in a locked folder; ``command`` has the options that a job began it with."""
    if distributed.compute_on_main((path / CHECKPOINT).is_file):
        claim(path, given if command is None else command)
    checkpoint = load_checkpoint(path)
    if (path / REPORT).exists():
        advice = "; to train longer, start a new run with --epochs and another --out" if "epochs" in given else ""
        raise RunError(f"the training in {path} is finished: nothing to resume{advice}")
    stored = Config.load(path / CONFIG)
    recipe = replace(stored, **{key: given.pop(key) for key in CHANGEABLE if key in given})
    if problem := unavailable(recipe.device):
        raise RunError(
            f"{problem}; the training in {path} began on it: resume where it is available, or start again with "
            "--overwrite"
        )
    compute = replace(pick_compute(recipe.device, recipe.precision), reason="as before")
    recipe = replace(recipe, precision=compute.precision)
    movable = (*MOVABLE, *(() if stored.teacher is None else ("teacher",)))
    check_data_dir(given.get("data", stored.data), given.get("data_dir"))
    settings = replace(recipe, **with_absolute_paths({key: given.pop(key) for key in movable if key in given}))
    if given:
        raise RunError(f"--resume uses the options in {path / CONFIG}: leave out {', '.join(sorted(given))}")
    taught_by = open_teacher(asdict(settings), path)
    check_log(settings.log)
    dataset = open_dataset({**asdict(settings), "size": (settings.height, settings.width)}, path, test_pictures)
    _check_nodes(compute, dataset)
    if dict(dataset.fingerprints) != checkpoint.fingerprints:
        raise RunError(
            f"the data differs from the data that the training in {path} started with: restore it, or start again "
            "with --overwrite"
        )
    made = _make(settings, dataset, compute, taught_by)
    if made.teacher is not None and made.teacher.digest != checkpoint.teacher:
        raise RunError(
            f"the teacher {settings.teacher} has other weights than when the training in {path} started: restore it, "
            "or start again with --overwrite"
        )
    if test_pictures is not None and distributed.is_main_process():  # a refusal must not store the new settings
        check_folder(dataset, Path(test_pictures), overwrite=overwrite)
    with explain_failures(path):
        if distributed.is_main_process():
            sweep(path)
        return _run(
            path, settings, compute, dataset, made, test_pictures, on_epoch, checkpoint=checkpoint, overwrite=overwrite
        )


class _Made(NamedTuple):
    """What a training starts from, besides the data."""

    spec: Spec
    network: nn.Module
    teacher: Teacher | None


def _make(settings: Config, dataset: Dataset, compute: Compute, taught_by: Run | None) -> _Made:
    torch.manual_seed(settings.seed)
    spec = make_spec(settings, dataset)
    network = make_network(settings, dataset, spec)
    teacher = None if taught_by is None else make_teacher(taught_by, settings, dataset, compute.device)
    return _Made(spec, network, teacher)


def _run(
    path: Path,
    settings: Config,
    compute: Compute,
    dataset: Dataset,
    made: _Made,
    test_pictures: str | os.PathLike[str] | None,
    on_epoch: Callable[[Sequence[Epoch]], None],
    *,
    overwrite: bool,
    called: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run:
    """Store the settings in the run folder, write the test pictures, and train."""
    if distributed.is_main_process():
        settings.save(path / CONFIG)
        if test_pictures is not None:
            write_test_pictures(dataset, Path(test_pictures), overwrite=overwrite)
    with logged(path, settings, on_epoch, resumed=checkpoint is not None) as after_epoch:
        session = Session(
            path=path,
            config=settings,
            compute=compute,
            dataset=dataset,
            spec=made.spec,
            network=made.network,
            on_epoch=after_epoch,
            called=called,
            checkpoint=checkpoint,
            teacher=made.teacher,
        )
        return session.run()


def _check_nodes(compute: Compute, dataset: Dataset) -> None:
    """Check that all processes compute alike on the same data.

    Raises:
        ConfigError: a node has another device.
        DataError: a node has other pictures.
    """
    if nodes := distributed.differing_nodes((compute.device.type, compute.precision)):
        raise ConfigError(
            f"{' and '.join(nodes)} would not compute on {compute.device.type} in {compute.precision} as the main "
            "process does: pass --device and --precision"
        )
    if nodes := distributed.differing_nodes(dict(dataset.fingerprints)):
        raise DataError(
            f"the pictures of {dataset.source.name} on {' and '.join(nodes)} are not those of the main process: copy "
            "the same files to all nodes, or share the folder"
        )
