"""The errors of ``cnn_export``. Their base class is shared by all three packages."""

from cnn_infer.errors import EdgeCNNError


class ExportError(EdgeCNNError):
    """Base of the errors of ``cnn_export``: an option, the run or its data set cannot be used."""


class GraphError(ExportError):
    """The network cannot be exported or quantized; the message names the reason."""


class ParityError(ExportError):
    """The exported model does not compute what was trained. ``export.failed.json`` has the evidence."""

    exit_code = 1
