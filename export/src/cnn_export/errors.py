"""What can go wrong in export, under the base class that the three packages share."""

from cnn_infer.errors import EdgeCNNError


class ExportError(EdgeCNNError):
    """Base of the errors of ``cnn_export``: options, data or a network that cannot be exported."""


class GraphError(ExportError):
    """The network cannot be written as a graph that keeps the contract; says which part."""


class ParityError(ExportError):
    """What was exported does not compute what was trained. The evidence is in ``export.failed.json``."""

    exit_code = 1
