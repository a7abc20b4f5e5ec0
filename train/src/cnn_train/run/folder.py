"""A run folder: what a training leaves behind, and where export finds it."""

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
from cnn_train.network.build import add_biases, build
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
        """The run in a folder.

        Raises:
            RunError: there is no such folder, or its training is not finished.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"no such run folder: {path}")
        missing = [name for name in (WEIGHTS, SPEC, CONFIG, REPORT) if not (run.path / name).is_file()]
        if missing and (run.path / CHECKPOINT).is_file():
            raise RunError(f"the training in {path} is not finished: cnn-train --resume --out {path}")
        if missing:
            raise RunError(f"{path} is not a run folder: it has no {', '.join(missing)}")
        return run

    @classmethod
    def newest(cls, root: str | os.PathLike[str] = RUNS) -> Run:
        """The run under ``root`` that finished last.

        Raises:
            RunError: there is none.
        """
        found = folders_holding(REPORT, root)
        if not found:
            raise RunError(f"no finished run under {root}/: run cnn-train first, or name a run folder")
        return cls.open(found[-1])

    @cached_property
    def spec(self) -> Spec:
        """What the model takes and gives. Raises :class:`RunError` where the file is damaged."""
        try:
            return Spec.from_json((self.path / SPEC).read_text(encoding="utf-8"))
        except (OSError, ValueError, ModelError) as error:
            raise RunError(f"{self.path / SPEC} is damaged: {error}") from error

    @cached_property
    def config(self) -> Config:
        """The resolved configuration. Raises :class:`ConfigError` where the file is damaged."""
        return Config.load(self.path / CONFIG)

    @cached_property
    def report(self) -> dict[str, Any]:
        """The final figures, as in ``report.json``.

        Of its times, ``seconds`` is the sum of the epochs, each with its validation, ``session_seconds`` reaches from
        the first epoch of the last session to the final figures, and ``seconds_with_preparation`` from the call of
        :func:`cnn_train.train`, before the data is opened, to the end of the last epoch: what a person waits for. It
        is None for a training that was resumed.

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
        """All epochs, as in ``metrics.jsonl``. Raises :class:`RunError` where the file is missing or damaged."""
        try:
            lines = (self.path / METRICS).read_text(encoding="utf-8").splitlines()
            return tuple(Epoch(**json.loads(line)) for line in lines)
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.path / METRICS} is damaged: {error}") from error

    def network(self) -> nn.Module:
        """The trained network on the CPU, in evaluation mode: normalised float (n, c, h, w) to logits at T = 1.

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
    """The folder under ``root`` of the training that was cut off last.

    Raises:
        RunError: there is none.
    """
    found = [path for path in folders_holding(CHECKPOINT, root) if not (path / REPORT).exists()]
    if not found:
        raise RunError(f"no unfinished training under {root}/: name its folder with --out")
    return found[-1]


def check_out(out: str | os.PathLike[str] | None, *, overwrite: bool) -> None:
    """Refuse a run folder that holds something, unless it may be overwritten. Raises :class:`RunError`."""
    path = None if out is None else Path(out)
    # the lock alone is left where a training is killed as it begins
    if path is not None and path.is_dir() and any(entry.name != LOCK for entry in path.iterdir()) and not overwrite:
        raise RunError(f"{path} is not empty: pass --overwrite to replace the run in it, or --resume to go on with it")


def create(out: str | os.PathLike[str] | None, data: str) -> Path:
    """Make the run folder: ``out``, or ``runs/TIMESTAMP-DATA``, with a number where that exists.

    Raises:
        RunError: it cannot be made.
    """
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", data).strip("-.") or "data"
    path = Path(out) if out is not None else Path(RUNS) / f"{time.strftime('%Y%m%d-%H%M%S')}-{label}"
    try:
        if out is not None:
            path.mkdir(parents=True, exist_ok=True)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        return _made_anew(path)
    except OSError as error:
        raise RunError(f"cannot make the run folder {path}: {error.strerror}") from error


def clear(path: Path) -> None:
    """Remove what an earlier run left, and nothing else. Raises :class:`RunError`."""
    try:
        for name in (*TRAINING_FILES, *EXPORT_FILES):
            (path / name).unlink(missing_ok=True)
        sweep(path)
    except OSError as error:
        raise RunError(f"cannot clear the run folder {path}: {error.strerror}") from error


def sweep(path: Path) -> None:
    """Remove what a training that was killed left half-written."""
    for name in TRAINING_FILES:
        for partial in path.glob(f".{name}.*.partial"):
            partial.unlink(missing_ok=True)


def _made_anew(path: Path) -> Path:
    """``path``, or the same with a number behind it where two trainings start in one second."""
    for number in count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            candidate.mkdir()
            break
    return candidate


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights as safetensors, from any device."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_bytes(path / WEIGHTS, safetensors.torch.save(state))


def save_metrics(path: Path, epochs: list[Epoch]) -> None:
    """Write one JSON line an epoch."""
    write_text(path / METRICS, "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in epochs))
