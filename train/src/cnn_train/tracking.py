"""The epochs of a training in the log of another program (``--log``): TensorBoard or MLflow.

Both are written after each epoch, once its checkpoint is on the disk. A resumed training appends: the log tells which
epochs it has.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from cnn_infer.paths.naming import printable

from cnn_train import distributed
from cnn_train.config import Config
from cnn_train.errors import ConfigError, RunError
from cnn_train.recipe.fit import Epoch
from cnn_train.sqlite_url import sqlite_url

EVENTS, DATABASE = "tensorboard", "mlflow.db"
"""In the run folder: the folder of TensorBoard's event files, and MLflow's database."""

SERVER = "MLFLOW_TRACKING_URI"
"""The environment variable that names MLflow's server or database in place of the one in the run folder."""

NEEDED = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny sqlalchemy alembic"}
"""The modules that each log needs, and the packages that have them."""

OnEpoch = Callable[[Sequence[Epoch]], None]


def check_log(name: str | None) -> None:
    """Raise :class:`ConfigError` if the library of the log is not installed."""
    if name is not None and not all(find_spec(module) for module in NEEDED[name]):
        raise ConfigError(f"--log {name} needs a package: python -m pip install {PACKAGES[name]}")


def clear_logs(path: Path) -> None:
    """Remove the logs of an earlier training from a run folder."""
    shutil.rmtree(path / EVENTS, ignore_errors=True)
    (path / DATABASE).unlink(missing_ok=True)


@contextmanager
def logged(path: Path, settings: Config, on_epoch: OnEpoch, *, resumed: bool) -> Iterator[OnEpoch]:
    """Open the log that the settings name, if any; in the main process only.

    Args:
        path: The run folder.
        settings: The settings of the training.
        on_epoch: What else to call after each epoch.
        resumed: Whether the training continues an earlier session, so that its log is appended to.

    Yields:
        A function to call after each epoch with all epochs so far.

    Raises:
        RunError: MLflow's server or database cannot be used.
    """
    if settings.log is None or not distributed.is_main_process():
        yield on_epoch
        return
    with {"tensorboard": _tensorboard, "mlflow": _mlflow}[settings.log](path, settings, resumed) as write:

        def both(epochs: Sequence[Epoch]) -> None:
            write(epochs)
            on_epoch(epochs)

        yield both


def scalars(epoch: Epoch) -> Mapping[str, float]:
    """Return the values of an epoch by the names that both logs show."""
    return {
        "loss/train": epoch.train_loss,
        "loss/validation": epoch.val_loss,
        "loss/validation_calibrated": epoch.val_calibrated_loss,
        "accuracy/train": epoch.train_accuracy,
        "accuracy/validation": epoch.val_accuracy,
        "learning_rate": epoch.lr,
        "pictures_per_second": epoch.images_per_second,
    }


@contextmanager
def _tensorboard(path: Path, _: Config, resumed: bool) -> Iterator[OnEpoch]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    done = 0
    if resumed and (path / EVENTS).is_dir():
        known = EventAccumulator(str(path / EVENTS), {"scalars": 0}).Reload()  # 0 keeps all
        done = max((event.step for event in known.Scalars("learning_rate")), default=0) if known.scalars.Keys() else 0
    with SummaryWriter(str(path / EVENTS)) as writer:

        def write(epochs: Sequence[Epoch]) -> None:
            nonlocal done
            for epoch in epochs[done:]:
                for name, value in scalars(epoch).items():
                    writer.add_scalar(name, value, epoch.epoch)
            done = len(epochs)
            writer.flush()

        yield write


@contextmanager
def _mlflow(path: Path, settings: Config, resumed: bool) -> Iterator[OnEpoch]:
    import logging

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table of a new database
    where = os.environ.get(SERVER) or sqlite_url(path / DATABASE)
    try:
        client = MlflowClient(where)
        found = client.get_experiment_by_name("cnn-train")
        experiment = client.create_experiment("cnn-train") if found is None else found.experiment_id
        own = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()  # a filter cannot hold all characters of a path
        earlier = client.search_runs([experiment], f"tags.cnn_train_run = '{own}'") if resumed else []
        if earlier:  # the newest one
            run = earlier[0].info.run_id
        else:
            run = client.create_run(experiment, tags={"cnn_train_run": own}, run_name=path.name).info.run_id
            for key, value in asdict(settings).items():
                client.log_param(run, key, value)
        done = max((entry.step for entry in client.get_metric_history(run, "learning_rate")), default=0)

        def write(epochs: Sequence[Epoch]) -> None:
            nonlocal done
            for epoch in epochs[done:]:
                for name, value in scalars(epoch).items():
                    client.log_metric(run, name, value, step=epoch.epoch)
            done = len(epochs)

        yield write
        client.set_terminated(run)
    except MlflowException as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"MLflow cannot use {printable(where)}: {reason}") from error
