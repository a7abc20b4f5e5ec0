"""Cross-validation: one training per fold, each tested on pictures that it has not seen, for sets of few pictures.

Stone, 1974, "Cross-Validatory Choice and Assessment of Statistical Predictions",
doi:10.1111/j.2517-6161.1974.tb00994.x.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from cnn_infer.metrics import scores_of, wilson_interval
from cnn_infer.run_files import CHECKPOINT, CONFIG, CONFUSION, REPORT
from cnn_infer.system.atomic import write_text

from cnn_train import distributed
from cnn_train.config import DEFAULTS, Config, read_options
from cnn_train.errors import ConfigError, DivergedError, RunError, TrainingFailedError, TrainingInterruptedError
from cnn_train.options import MAX_FOLDS, Options
from cnn_train.recipe.fit import Epoch
from cnn_train.run import plots
from cnn_train.run.checkpoint import load_checkpoint
from cnn_train.run.folder import Run, check_out, clear, default_path
from cnn_train.training import CHANGEABLE, MOVABLE, ignore_epoch, train

log = logging.getLogger(__name__)

FOLDS_REPORT = "folds.json"
"""The report of a cross-validation, in its folder beside the run folders ``fold-1``, ``fold-2``, ..."""


@dataclass(frozen=True)
class CrossValidation:
    """A finished cross-validation.

    Attributes:
        path: Its folder.
        runs: The run of each fold.
        report: The content of ``folds.json``: ``folds`` (accuracy, macro F1, loss and number of test pictures of each),
            ``accuracy`` and ``macro_f1`` (``mean`` and ``deviation``, the standard deviation over the folds, 0 to 1),
            and ``pooled``: ``images``, ``correct``, ``accuracy`` with its 95% interval, ``macro_f1``, ``classes`` and
            ``confusion`` of all test pictures, of which each is in one fold.
    """

    path: Path
    runs: Sequence[Run]
    report: Mapping[str, Any]


def cross_validate(
    data: str | os.PathLike[str] | None = None,
    *,
    folds: int,
    out: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[Sequence[Epoch]], None] = ignore_epoch,
    **options: Unpack[Options],
) -> CrossValidation:
    """Train once for each fold, with that fold as the test split, and report mean, spread and pooled figures.

    The folds are stratified and, with groups, part no group. The other folds lack the validation split, a tenth, which
    is set aside from them. All folds have the settings that the first one resolves to; one that was resumed alone may
    have another learning rate or precision.

    Args:
        data: As for :func:`cnn_train.train`, without given splits other than ``train``.
        folds: Number of folds, 2 to :data:`cnn_train.options.MAX_FOLDS`.
        out: The folder. Default: ``runs/TIMESTAMP-DATA-folds``.
        config: A TOML file with options; options passed to this call win.
        resume: Continue the cross-validation in ``out``: finished folds are kept, and an interrupted one continues with
            its last epoch. It uses the options that the folder stores.
        overwrite: Replace earlier runs in ``out``.
        on_epoch: As for :func:`cnn_train.train`.
        **options: As for :func:`cnn_train.train`.

    Raises:
        ConfigError, DataError, RunError, DivergedError: as for :func:`cnn_train.train`; or ``folds`` is out of range.
        TrainingInterruptedError: Ctrl-C; the finished folds and the last epoch are kept.
    """
    if type(folds) is not int or not 2 <= folds <= MAX_FOLDS:
        raise ConfigError(f"folds must be a whole number from 2 to {MAX_FOLDS}, not {folds!r}")
    if distributed.launched_by_torchrun():
        raise ConfigError("--folds does not run under torchrun: train each fold with --fold 1/K, --fold 2/K and so on")
    if "fold" in options:
        raise ConfigError("no effect with --folds: --fold")
    if resume and overwrite:
        raise ConfigError("no effect with --resume: --overwrite")
    given = {**options, "data": data, "config": config}
    path = _resumed(out, folds, given) if resume else _new(out, given, overwrite)
    first = path / "fold-1" / CONFIG
    runs: list[Run] = []
    how = f"cnn-train --folds {folds} --resume --out {path}"
    begun = resume and _has_epochs(path / "fold-1")

    def after_epoch(epochs: Sequence[Epoch]) -> None:
        if not begun and not runs:  # not sooner: a mistake in the options deletes nothing
            _clear_others(path)
        on_epoch(epochs)

    for number in range(1, folds + 1):
        folder = path / f"fold-{number}"
        log.info(f"fold {number} of {folds}")
        if resume and number > 1:
            _check_same(path, folder.name)
        try:
            if resume and (folder / REPORT).is_file():
                runs.append(Run.open(folder))
            elif resume and (folder / CHECKPOINT).is_file():
                runs.append(train(out=folder, resume=True, on_epoch=after_epoch))
            elif number == 1 and not resume:
                part: Options = {**options, "fold": f"1/{folds}"}
                runs.append(train(data, out=folder, config=config, overwrite=overwrite, on_epoch=after_epoch, **part))
            else:
                again, fold = overwrite or resume, f"{number}/{folds}"
                runs.append(train(out=folder, config=first, overwrite=again, on_epoch=after_epoch, fold=fold))
        except TrainingInterruptedError as error:
            raise TrainingInterruptedError(f"interrupted in fold {number} of {folds}: {how}") from error
        except (DivergedError, TrainingFailedError) as error:  # their command continues this fold alone
            if not begun and not runs:
                _clear_others(path)
            # what starts again is the whole cross-validation: then there is no fold to continue
            message = str(error) if str(error).endswith("--overwrite") else f"{error}, then {how}"
            if isinstance(error, DivergedError):
                raise DivergedError(message, lower_rate=error.lower_rate) from error
            raise TrainingFailedError(message, error.reason) from error
    return _finished(path, runs)


def _new(out: str | os.PathLike[str] | None, given: Mapping[str, Any], overwrite: bool) -> Path:
    config = given["config"]
    asked = {} if config is None else read_options(Path(config))
    if (given.get("teacher") or asked.get("teacher")) is not None:
        raise ConfigError(
            "--folds takes no --teacher, because it has seen the test pictures of some folds: train each fold with "
            "--fold I/K and its own --teacher"
        )
    if out is not None:
        check_out(out, overwrite=overwrite)
        return Path(out)
    return default_path(given["data"] or asked.get("data", DEFAULTS["data"]), "folds")


def _has_epochs(fold: Path) -> bool:
    """Whether a fold has an epoch. Until the first one has, an earlier cross-validation may lie beside it."""
    return (fold / REPORT).is_file() or ((fold / CHECKPOINT).is_file() and bool(load_checkpoint(fold).epochs))


def _check_same(path: Path, fold: str) -> None:
    """Raise :class:`RunError` if a fold was begun with other settings than the first one.

    A fold that was resumed alone may have another learning rate or precision: that is a warning. Its pictures may have
    moved: resuming it compared their fingerprints with those of its start.
    """
    if not any((path / fold / name).is_file() for name in (CHECKPOINT, REPORT)):
        return
    first, other = (asdict(Config.load(path / name / CONFIG)) for name in ("fold-1", fold))
    unequal = sorted(key for key in first if key not in ("fold", *MOVABLE) and first[key] != other[key])
    if changed := [f"{key} {other[key]}, not {first[key]}" for key in unequal if key in CHANGEABLE]:
        log.warning(f"{fold} was trained with other settings than fold-1: {'; '.join(changed)}")
    if unequal := [key for key in unequal if key not in CHANGEABLE]:
        raise RunError(
            f"{path / fold} was trained with other settings than fold-1 ({', '.join(unequal)}): remove it to train it "
            "again, or start again with --overwrite"
        )


def _clear_others(path: Path) -> None:
    """Remove what an earlier cross-validation left beside the first fold."""
    for folder in path.glob("fold-*"):
        if folder.name != "fold-1":
            clear(folder)
    for name in (FOLDS_REPORT, CONFUSION):
        (path / name).unlink(missing_ok=True)


def _resumed(out: str | os.PathLike[str] | None, folds: int, given: Mapping[str, Any]) -> Path:
    unwanted = sorted(name for name, value in given.items() if value is not None)
    if unwanted:
        raise RunError(f"--resume uses the options that the folder stores: leave out {', '.join(unwanted)}")
    if out is None:
        raise RunError("--resume with --folds needs the folder of the cross-validation: name it with --out")
    stored = Path(out) / "fold-1" / CONFIG
    if not stored.is_file():
        raise RunError(f"{out} has no cross-validation to resume: start it without --resume")
    fold = Config.load(stored).fold
    if fold != f"1/{folds}":
        raise RunError(f"{out} has fold {fold}: pass the same number with --folds")
    return Path(out)


def _finished(path: Path, runs: Sequence[Run]) -> CrossValidation:
    tests = [run.report["test"] for run in runs]
    classes = runs[0].spec.classes
    confusion = np.sum([test["confusion"] for test in tests], axis=0)
    correct, images = int(np.trace(confusion)), int(confusion.sum())
    scores = scores_of(confusion)
    pooled = {
        "images": images,
        "correct": correct,
        "accuracy": correct / images,
        "accuracy_interval": list(wilson_interval(correct, images)),
        "macro_f1": scores.macro(scores.f1),
        "classes": list(classes),
        "confusion": confusion.tolist(),
    }
    kept = ("images", "accuracy", "macro_f1", "loss")
    report = {
        "folds": [
            {"run": run.path.name, **{key: test[key] for key in kept}} for run, test in zip(runs, tests, strict=True)
        ],
        **{key: _spread([test[key] for test in tests]) for key in ("accuracy", "macro_f1")},
        "pooled": pooled,
    }
    write_text(path / FOLDS_REPORT, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    title = f"{len(runs)} folds: {correct / images:.2%} of {images:,} pictures correct"
    plots.save(plots.confusion(confusion, classes, title), path / CONFUSION)
    for line in summary(report):
        log.info(line)
    log.info(f"wrote {path}/")
    log.info("next: cnn-train with the same options, without --folds: it trains the network to export")
    return CrossValidation(path, runs, report)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "deviation": statistics.stdev(values)}


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return the lines for people on the content of ``folds.json``."""
    lines = [
        f"  {fold['run']}: accuracy {fold['accuracy']:.2%}, macro F1 {fold['macro_f1']:.4f}, loss {fold['loss']:.4f} "
        f"on {fold['images']:,} pictures"
        for fold in report["folds"]
    ]
    accuracy, f1, pooled = report["accuracy"], report["macro_f1"], report["pooled"]
    low, high = pooled["accuracy_interval"]
    return [
        *lines,
        f"mean of {len(lines)} folds: accuracy {accuracy['mean']:.2%} (standard deviation {accuracy['deviation']:.2%}),"
        f" macro F1 {f1['mean']:.4f} ({f1['deviation']:.4f})",
        f"pooled: accuracy {pooled['accuracy']:.2%} (95% interval {low:.1%} to {high:.1%}), "
        f"macro F1 {pooled['macro_f1']:.4f} on {pooled['images']:,} pictures",
    ]
