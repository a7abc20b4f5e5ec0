"""Everything that can go wrong, as one small tree.

The three packages share :class:`EdgeCNNError`; a command catches it once, prints it as one line and
leaves with its exit code.
"""


class EdgeCNNError(Exception):
    """Base of every error that EdgeCNN raises on purpose. Its text is one line for a person."""

    exit_code = 2


class InferError(EdgeCNNError):
    """Base of the errors of ``cnn_infer``."""


class InputError(InferError):
    """The arguments or the files asked for make no sense: nothing there, an unknown name, a wrong shape."""


class PictureError(InferError):
    """One picture cannot be turned into pixels. A folder run reports it in that picture's row."""


class ModelError(InferError):
    """The file is not a model of ours, or it is damaged."""


class DeviceError(InferError):
    """The device asked for does not come up on this machine."""


class CheckError(InferError):
    """A check that was asked for failed: ``--verify`` or ``--strict``."""

    exit_code = 1
