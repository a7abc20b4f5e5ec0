"""Hyperparameter search with Optuna (``--tune``): learning rate, weight decay, augmentation and network.

Akiba et al., 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", arXiv:1907.10902. A trial is a
training that ends before the test split is measured; its value is the calibrated validation loss of the epoch
that is kept.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cnn_infer.console import quantity

from cnn_train import distributed
from cnn_train.config import DEFAULTS, Config, checked, read_options
from cnn_train.data.named_sets import check_data_dir
from cnn_train.defaults import resolve
from cnn_train.errors import ConfigError, DivergedError, RunError, TrainingFailedError, TrainingInterruptedError
from cnn_train.network.build import check_model
from cnn_train.options import AUGMENTATIONS, Options
from cnn_train.preparation import open_dataset
from cnn_train.recipe.fit import Epoch
from cnn_train.recipe.stopping import best_epoch, is_over
from cnn_train.run.folder import check_out, default_path
from cnn_train.study import BEST, STUDY, at_work, explained, open_study
from cnn_train.teacher import check_classes
from cnn_train.training import check_options, train

if TYPE_CHECKING:
    from optuna import Study, Trial

log = logging.getLogger(__name__)

TUNED = ("lr", "weight_decay", "augment", "model")
"""The options that are chosen, unless they are given."""

NETWORKS = ("nano", "small", "base")
RATES, DECAYS = (0.25, 4.0), (0.1, 10.0)
"""Networks that are tried, and the ranges of learning rate and weight decay as multiples of the defaults."""

EXTRA_AUGMENTATIONS = ((), ("zoom",), ("rotate",), ("zoom", "colour"))
"""Augmentations that are tried besides the default ones."""

MOST_LISTED = 5
"""Most trials in the table at the end."""


class _Measured(Exception):  # noqa: N818 - no error
    """Ends the training of a trial after its last epoch, before the test split is measured."""


def tune(
    data: str | os.PathLike[str] | None = None,
    *,
    trials: int,
    out: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Unpack[Options],
) -> Config:
    """Search for better settings until the study has ``trials`` finished trials; write the best as ``best.toml``.

    Options that are given keep their values. The first trial has the default values. The same call continues an
    earlier search in ``out``, and several processes may work on one at once.

    Args:
        data: As for :func:`cnn_train.train`.
        trials: Number of finished trials of the study, at least 1. Pruned ones count.
        out: The folder. Default: ``runs/TIMESTAMP-DATA-tune``.
        config: A TOML file with options; options passed to this call win.
        overwrite: Begin anew in a folder that is not empty.
        **options: As for :func:`cnn_train.train`.

    Returns:
        The best configuration.

    Raises:
        ConfigError, DataError, RunError: as for :func:`cnn_train.train`; or Optuna is not installed, or the study in
            ``out`` has other options or data, or cannot be read or written.
        TrainingInterruptedError: Ctrl-C; the finished trials are kept.
    """
    if type(trials) is not int or trials < 1:
        raise ConfigError(f"tune must be a whole number of at least 1, not {trials!r}")
    if find_spec("optuna") is None:
        raise ConfigError("--tune needs a package: python -m pip install optuna")
    if distributed.launched_by_torchrun():
        raise ConfigError("--tune does not run under torchrun: start several processes with the same --out instead")
    given = checked({**({} if data is None else {"data": os.fspath(data)}), **options})
    asked = {**(read_options(Path(config)) if config is not None else {}), **given}
    if "log" in asked:
        raise ConfigError("no effect with --tune: --log")
    if all(name in asked for name in TUNED):
        raise ConfigError("--tune has nothing to choose: leave out --lr, --weight-decay, --augment or --model")
    path = default_path(asked.get("data", DEFAULTS["data"]), "tune") if out is None else Path(out)
    wanted = {**DEFAULTS, **asked}
    networks = (wanted["model"],) if "model" in asked else NETWORKS
    # a mistake is found before the study stores the options that it was begun with
    _, teacher = check_options({**wanted, "model": networks[0]}, path)
    check_data_dir(wanted["data"], given.get("data_dir"))
    if overwrite or not (path / STUDY).is_file():
        check_out(path, overwrite=overwrite, what="search")
    dataset = open_dataset(wanted, path, None)
    if teacher is not None:
        check_classes(teacher, dataset)
    start = resolve(wanted, dataset)
    starts = {name: resolve({**wanted, "model": name}, dataset) for name in networks}
    for own in starts.values():  # each of them, and the size is known now
        check_model(own.model, pretrained=own.pretrained, dropout=own.dropout, size=(own.height, own.width))
    known = {"settings": asdict(start), "train": dataset.fingerprints["train"], "val": dataset.fingerprints["val"]}

    def objective(trial: Trial) -> float:
        with at_work(path, trial.number):
            return _value(trial, starts, asked, path)

    with explained(path):
        study = open_study(path, known, start, overwrite=overwrite)
        while (finished := len(_finished(study))) < trials:
            log.info(f"trial {finished + 1} of {trials}")
            study.optimize(objective, n_trials=1)
            _write_best(study, path, start)
        _write_best(study, path, start)  # another process, or one that was killed, may not have done it
        table = _table(study)
    for line in table:
        log.info(line)
    if not (path / BEST).is_file():
        found = quantity(finished, "trial")
        raise RunError(f"no result of {found} in {path}: all diverged; pass a lower --lr, and --overwrite")
    log.info(f"wrote {path / BEST}")
    log.info(f"next: cnn-train --config {path / BEST}")
    return Config.load(path / BEST)


def _finished(study: Study) -> list[Any]:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _value(trial: Trial, starts: Mapping[str, Config], asked: Mapping[str, Any], path: Path) -> float:
    """Train with the settings of a trial; return the calibrated validation loss of the epoch that is kept."""
    import optuna

    settings = _settings(trial, starts, asked)
    seen: Sequence[Epoch] = ()

    def after_epoch(epochs: Sequence[Epoch]) -> None:
        nonlocal seen
        seen = epochs
        learned = [epoch for epoch in epochs if epoch.lr]  # fits of the last layer are no measure of the others
        trial.report(best_epoch(learned or epochs).val_calibrated_loss, len(epochs))
        if is_over(epochs, settings):
            raise _Measured
        if trial.should_prune():
            raise optuna.TrialPruned

    folder = path / f"trial-{trial.number}"
    file = path / f".trial-{trial.number}.toml"
    again = f"the same command with --out {path}, without --overwrite, continues"
    try:
        settings.save(file)
        train(config=file, out=folder, overwrite=True, on_epoch=after_epoch)
    except _Measured:
        pass
    except DivergedError as error:
        raise optuna.TrialPruned(str(error)) from error
    except (TrainingInterruptedError, KeyboardInterrupt) as error:  # the second one while the data is opened
        raise TrainingInterruptedError(f"interrupted in trial {trial.number}: {again}") from error
    except TrainingFailedError as error:
        raise RunError(f"trial {trial.number} ended: {error.reason}; {again}") from error
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return best_epoch(seen).val_calibrated_loss


def _settings(trial: Trial, starts: Mapping[str, Config], asked: Mapping[str, Any]) -> Config:
    """The settings of a trial: the defaults of its network in ``starts``, and new values for what was not asked for."""
    start = starts[asked["model"] if "model" in asked else trial.suggest_categorical("model", NETWORKS)]
    found: dict[str, Any] = {}
    if "lr" not in asked:
        found["lr"] = start.lr * trial.suggest_float("lr", *RATES, log=True)
    if "weight_decay" not in asked and start.weight_decay:
        found["weight_decay"] = start.weight_decay * trial.suggest_float("weight_decay", *DECAYS, log=True)
    if "augment" not in asked:
        more = [names for names in EXTRA_AUGMENTATIONS if not names or not {*names} <= {*start.augment}]
        chosen = trial.suggest_categorical("augment", [",".join(names) for names in more])
        found["augment"] = tuple(name for name in AUGMENTATIONS if name in (*start.augment, *chosen.split(",")))
    settings = replace(start, **found)
    trial.set_user_attr("settings", {key: getattr(settings, key) for key in TUNED})
    return settings


def _write_best(study: Study, path: Path, start: Config) -> None:
    done = [trial for trial in _finished(study) if trial.state.name == "COMPLETE"]
    if done:
        settings = min(done, key=lambda trial: trial.value).user_attrs["settings"]
        replace(start, **{**settings, "augment": tuple(settings["augment"])}).save(path / BEST)


def _table(study: Study) -> list[str]:
    """The best trials, one line each."""
    done = _finished(study)
    complete = sorted((trial for trial in done if trial.state.name == "COMPLETE"), key=lambda trial: trial.value)
    lines = [f"{len(done)} trials, {len(done) - len(complete)} of them pruned; the best by validation loss:"]
    for trial in complete[:MOST_LISTED]:
        own = trial.user_attrs["settings"]
        lines.append(
            f"  trial {trial.number}: loss {trial.value:.4f}, {own['model']}, lr {own['lr']:.4g}, "
            f"weight decay {own['weight_decay']:.4g}, augment {','.join(own['augment']) or 'none'}"
        )
    return lines
