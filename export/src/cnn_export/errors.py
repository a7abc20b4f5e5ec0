"""The errors of ``cnn_export``. Their base class is shared by all three packages."""

from cnn_infer.errors import EdgeCNNError


class ExportError(EdgeCNNError):
    """Base of the errors of ``cnn_export``: an option, the run or its data set cannot be used."""


class GraphError(ExportError):
    """The network cannot be exported or quantized; the message names the reason."""


class ParityError(ExportError):
    """The exported model does not compute what was trained.

    If an export fails, ``export.failed.json`` has the evidence; if only its fp16 model fails, ``export.json``. Files of
    an earlier export that give other results on this machine have no such report.
    """

    exit_code = 1


class GuaranteeError(ExportError):
    """A promise about wrong answers was asked for and cannot be given with this test split.

    Attributes:
        needed: At least about how many test pictures would be needed; None if more pictures would not help.
    """

    exit_code = 1

    def __init__(self, text: str, needed: int | None = None) -> None:
        super().__init__(text)
        self.needed = needed
