"""Train a convolutional network on pictures, through the same pixels that it will be run on."""

from cnn_train.config import Config, Options
from cnn_train.dataset import Dataset, Split, prepare
from cnn_train.errors import ConfigError, DataError, DivergedError, RunError, TrainError, TrainingInterruptedError
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
