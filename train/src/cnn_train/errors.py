"""The errors of training. Their base class is the one that the three packages share."""

from cnn_infer.errors import EdgeCNNError


class TrainError(EdgeCNNError):
    """Base class of the errors of ``cnn_train``."""


class DataError(TrainError):
    """The data set is missing, incomplete, or has an unknown layout."""


class ConfigError(TrainError):
    """The value of an option is not accepted, alone or together with other options."""


class RunError(TrainError):
    """A run folder is missing, unfinished, damaged, in use, or not empty; or the machine ran out of memory or disk."""


class TrainingFailedError(RunError):
    """A training ended early, because a file could not be written or memory ran out.

    Args:
        message: The whole message.
        reason: What happened, and what helps; without a word on how to continue. Default: the message.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


class DivergedError(TrainError):
    """The loss became infinite or not a number.

    Args:
        message: The whole message.
        lower_rate: Whether a lower learning rate may help.
    """

    def __init__(self, message: str, *, lower_rate: bool = True) -> None:
        super().__init__(message)
        self.lower_rate = lower_rate


class TrainingInterruptedError(TrainError):
    """Ctrl-C ended the training. The message says how to resume it."""

    exit_code = 130
