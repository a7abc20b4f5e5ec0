"""Train a convolutional network on pictures, through the same pixels that it will be run on."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as typing has it, which takes longer to load than all that stands here
if TYPE_CHECKING:
    from typing import Any

    from cnn_train.config import Config
    from cnn_train.dataset import Dataset, Split, prepare
    from cnn_train.errors import ConfigError, DataError, DivergedError, RunError, TrainError, TrainingInterruptedError
    from cnn_train.fit import Epoch
    from cnn_train.options import Options
    from cnn_train.run import Run
    from cnn_train.source import Source, open_source
    from cnn_train.training import train

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "Dataset",
    "DivergedError",
    "Epoch",
    "Options",
    "Run",
    "RunError",
    "Source",
    "Split",
    "TrainError",
    "TrainingInterruptedError",
    "open_source",
    "prepare",
    "train",
]

# Names are loaded when they are first used: torch takes seconds, and --help or a mistyped option needs none of it.
_MODULES = {
    "Config": "config",
    "Options": "options",
    "Dataset": "dataset",
    "Split": "dataset",
    "prepare": "dataset",
    "ConfigError": "errors",
    "DataError": "errors",
    "DivergedError": "errors",
    "RunError": "errors",
    "TrainError": "errors",
    "TrainingInterruptedError": "errors",
    "Epoch": "fit",
    "Run": "run",
    "Source": "source",
    "open_source": "source",
    "train": "training",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
