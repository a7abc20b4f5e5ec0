"""The run folder: the files that a training writes and that export reads."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import safetensors.torch
from cnn_infer.errors import ModelError
from cnn_infer.paths.find import folders_holding
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import (
    CHECKPOINT,
    CONFIG,
    EXPORT_FILES,
    LOCK,
    METRICS,
    REPORT,
    RUNS,
    SPEC,
    TRAINING_FILES,
    WEIGHTS,
)
from cnn_infer.spec import Spec
from cnn_infer.system.atomic import write_bytes, write_text
from torch import nn

from cnn_train.config import Config
from cnn_train.errors import RunError
from cnn_train.network.build import build
from cnn_train.network.pretrained import add_biases
from cnn_train.recipe.fit import Epoch


@dataclass(frozen=True)
class Run:
    """A finished training on disk.

    Attributes:
        path: The run folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open the run in a folder.

        Raises:
            RunError: there is no such folder, or its training is not finished.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"no such run folder: {path}")
        missing = [name for name in (WEIGHTS, SPEC, CONFIG, REPORT) if not (run.path / name).is_file()]
        if missing and (run.path / CHECKPOINT).is_file():
            raise RunError(f"the training in {path} is not finished: continue it with cnn-train --resume --out {path}")
        if missing:
            raise RunError(f"{path} is not a run folder: it has no {', '.join(missing)}")
        return run

    @classmethod
    def newest(cls, root: str | os.PathLike[str] = RUNS) -> Run:
        """Open the run under ``root`` that finished last.

        Raises:
            RunError: there is no finished run.
        """
        found = folders_holding(REPORT, root)
        if not found:
            raise RunError(f"no finished run under {root}/: run cnn-train first, or name a run folder")
        return cls.open(found[-1])

    @cached_property
    def spec(self) -> Spec:
        """The specification of the model. Raises :class:`RunError` if the file is damaged."""
        try:
            return Spec.from_json((self.path / SPEC).read_text(encoding="utf-8"))
        except (OSError, ValueError, ModelError) as error:
            raise RunError(f"{self.path / SPEC} is damaged: {error}") from error

    @cached_property
    def config(self) -> Config:
        """The resolved configuration. Raises :class:`ConfigError` if the file is damaged."""
        return Config.load(self.path / CONFIG)

    @cached_property
    def report(self) -> dict[str, Any]:
        """The final figures: the content of ``report.json``.

        It has three times. ``seconds`` is the sum over all epochs, including validation. ``session_seconds`` is the
        time from the first epoch of the last session to the final figures. ``seconds_with_preparation`` is the time
        from the call of :func:`cnn_train.train`, which opens and decodes the data, to the end of the last epoch; it is
        None for a resumed training.

        Raises:
            RunError: the file is damaged.
        """
        try:
            document: dict[str, Any] = json.loads((self.path / REPORT).read_text(encoding="utf-8"))
            float(document["test"]["loss"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"{self.path / REPORT} is damaged: {error}") from error
        return document

    @cached_property
    def epochs(self) -> tuple[Epoch, ...]:
        """All epochs: the content of ``metrics.jsonl``. Raises :class:`RunError` if it is missing or damaged."""
        try:
            lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
            return tuple(Epoch(**json.loads(line)) for line in lines)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.path / METRICS} is damaged: {error}") from error

    def network(self) -> nn.Module:
        """Load the trained network, on the CPU and in evaluation mode.

        It takes normalised pictures, float32 (n, c, h, w), and returns logits, float32 (n, classes), at temperature 1.

        Raises:
            RunError: the weights are damaged or do not fit the configuration.
        """
        spec = self.spec
        network = build(
            self.config.model,
            classes=len(spec.classes),
            channels=spec.channels,
            size=(spec.height, spec.width),
            dropout=self.config.dropout,
        )
        try:
            state = safetensors.torch.load((self.path / WEIGHTS).read_bytes())
            add_biases(network, state)
            network.load_state_dict(state)
        except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"{self.path / WEIGHTS} is damaged or of another network: {reason}") from error
        return network.eval()


def newest_unfinished(root: str | os.PathLike[str] = RUNS) -> Path:
    """Return the run folder under ``root`` of the unfinished training that ran last.

    Raises:
        RunError: there is no unfinished training.
    """
    found = [path for path in folders_holding(CHECKPOINT, root) if not (path / REPORT).exists()]
    if not found:
        raise RunError(f"no unfinished training under {root}/: name its folder with --out")
    return found[-1]


def check_out(out: str | os.PathLike[str] | None, *, overwrite: bool, what: str = "run") -> None:
    """Refuse a folder for results that is not empty and must not be overwritten.

    Args:
        out: The folder; it may not exist. None if it will be a new one.
        overwrite: Whether the earlier results may be replaced.
        what: What is in the folder, for the message; only a run can be resumed.

    Raises:
        RunError: the folder is not empty.
    """
    path = None if out is None else Path(out)
    # a training that is killed at its start leaves only its lock
    if path is not None and path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()) and not overwrite:
        or_resume = ", or --resume to continue it" if what == "run" else ""
        raise RunError(f"{printable(path)} is not empty: pass --overwrite to replace the {what} in it{or_resume}")


def default_path(data: str | os.PathLike[str], kind: str = "") -> Path:
    """Return ``runs/TIMESTAMP-DATA`` or ``runs/TIMESTAMP-DATA-KIND``, a name that every system allows.

    Args:
        data: The name of the data set, or its folder.
        kind: What the folder is, if it is not that of one training.
    """
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(os.path.abspath(data)).name).strip("-.") or "data"
    return Path(RUNS) / "-".join(part for part in (time.strftime("%Y%m%d-%H%M%S"), label, kind) if part)


def create(out: str | os.PathLike[str] | None, data: str) -> Path:
    """Create the run folder: ``out``, or ``runs/TIMESTAMP-DATA`` with a number appended if that exists.

    Args:
        out: The run folder; it may exist.
        data: The name of the data set.

    Raises:
        RunError: the folder cannot be created.
    """
    path = default_path(data) if out is None else Path(out)
    try:
        if out is not None:
            path.mkdir(parents=True, exist_ok=True)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        return _create_numbered(path)
    except OSError as error:
        raise RunError(f"cannot create the folder {path}: {error.strerror}") from error


def clear(path: Path) -> None:
    """Remove the files of an earlier run and of its export; keep all other files. Raises :class:`RunError`."""
    try:
        for name in (*TRAINING_FILES, *EXPORT_FILES):
            (path / name).unlink(missing_ok=True)
        sweep(path)
    except OSError as error:
        raise RunError(f"cannot clear the run folder {path}: {error.strerror}") from error


def sweep(path: Path) -> None:
    """Remove the partial files of a training that was killed while it wrote them."""
    for name in TRAINING_FILES:
        for partial in path.glob(f".{name}.*.partial"):
            partial.unlink(missing_ok=True)


def _create_numbered(path: Path) -> Path:
    """Create ``path``; append a number if it exists, because two trainings started in the same second."""
    for number in count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights as a safetensors file. The network may be on any device."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_bytes(path / WEIGHTS, safetensors.torch.save(state))


def save_metrics(path: Path, epochs: list[Epoch]) -> None:
    """Write one JSON line per epoch."""
    write_text(path / METRICS, "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in epochs))
