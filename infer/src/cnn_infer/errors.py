"""The exceptions of ``cnn_infer`` and the base class that all three packages share."""


class EdgeCNNError(Exception):
    """Base class of every error that EdgeCNN raises on purpose. Its text is one line for people.

    A command catches it once, prints the line on standard error, and exits with ``exit_code``.
    """

    exit_code = 2


class InferError(EdgeCNNError):
    """Base class of the errors of ``cnn_infer``."""


class InputError(InferError):
    """An argument is wrong: a missing file, an unknown name, an array of the wrong shape or type."""


class PictureError(InferError):
    """One picture cannot be turned into pixels. A run over a folder reports it in the picture's row and continues."""


class ModelError(InferError):
    """The model cannot be used: the file is missing, damaged or not written by cnn-export, or running it failed."""


class DeviceError(InferError):
    """ONNX Runtime is not installed, or the requested device is not available on this machine."""


class ClusterError(InferError):
    """A cluster cannot be reached, or cannot do the work: other versions, too few processors, a full disk."""


class TerminatedError(InferError):
    """SIGTERM ended a job that can be resumed."""

    exit_code = 143


class CheckError(InferError):
    """A requested check failed: ``--verify`` or ``--strict``."""

    exit_code = 1
