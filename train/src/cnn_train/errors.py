"""What can go wrong in training, under the base class that the three packages share."""

from cnn_infer.errors import EdgeCNNError


class TrainError(EdgeCNNError):
    """Base of the errors of ``cnn_train``."""


class DataError(TrainError):
    """The data set is missing, incomplete, or not laid out in a way that is understood."""


class ConfigError(TrainError):
    """An option has a value that makes no sense, alone or together with others."""


class RunError(TrainError):
    """A run folder is missing, unfinished, damaged, or in the way."""


class DivergedError(TrainError):
    """The loss is not a number any more."""


class TrainingInterruptedError(TrainError):
    """Ctrl-C; says how to go on."""

    exit_code = 130
