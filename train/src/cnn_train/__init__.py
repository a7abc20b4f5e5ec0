"""Train a convolutional network on pictures, with the same picture decoding that inference uses."""

from __future__ import annotations

from cnn_infer.lazy import lazily

TYPE_CHECKING = False  # importing typing takes longer than importing this module
if TYPE_CHECKING:
    from cnn_train import replay as replay
    from cnn_train.checking.doctor import Check as Check, check as check
    from cnn_train.comparison import Comparison as Comparison, compare as compare
    from cnn_train.config import Config as Config
    from cnn_train.cross_validation import CrossValidation as CrossValidation, cross_validate as cross_validate
    from cnn_train.data.dataset import Dataset as Dataset, Split as Split, prepare as prepare
    from cnn_train.data.source import Source as Source, open_source as open_source
    from cnn_train.defaults import resolve as resolve
    from cnn_train.errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        DivergedError as DivergedError,
        RunError as RunError,
        TrainError as TrainError,
        TrainingInterruptedError as TrainingInterruptedError,
    )
    from cnn_train.options import AUGMENTATIONS as AUGMENTATIONS, Options as Options
    from cnn_train.page.training_page import write_page as write_page
    from cnn_train.preparation import make_spec as make_spec
    from cnn_train.recipe.fit import Epoch as Epoch
    from cnn_train.run import plots as plots
    from cnn_train.run.folder import Run as Run
    from cnn_train.training import train as train
    from cnn_train.tuning import tune as tune

__version__ = "0.1.0"

_PUBLIC = {
    "AUGMENTATIONS": "options",
    "Comparison": "comparison",
    "Check": "checking.doctor",
    "Config": "config",
    "ConfigError": "errors",
    "CrossValidation": "cross_validation",
    "DataError": "errors",
    "Dataset": "data.dataset",
    "DivergedError": "errors",
    "Epoch": "recipe.fit",
    "Options": "options",
    "Run": "run.folder",
    "RunError": "errors",
    "Source": "data.source",
    "Split": "data.dataset",
    "TrainError": "errors",
    "TrainingInterruptedError": "errors",
    "check": "checking.doctor",
    "compare": "comparison",
    "cross_validate": "cross_validation",
    "make_spec": "preparation",
    "open_source": "data.source",
    "plots": "run.plots",
    "prepare": "data.dataset",
    "replay": "replay",
    "resolve": "defaults",
    "train": "training",
    "tune": "tuning",
    "write_page": "page.training_page",
}
"""For each public name, the module of this package that defines it."""

__all__ = [*_PUBLIC]

__getattr__, __dir__ = lazily(__name__, _PUBLIC)
