"""The finished files of an export: their optional outputs, each proven, their specification, and the fp32 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cnn_infer import Spec
from cnn_train import Dataset
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.confidence import Confidence, confidence_of
from cnn_export.evidence import EvidenceProof, with_evidence
from cnn_export.graph.receptive_field import Field
from cnn_export.model_file import GoldenPictures, finished_spec, model_file
from cnn_export.options import Settings
from cnn_export.parity import Outputs
from cnn_export.selective import Labelled
from cnn_export.strangers import Strangers, with_strangeness
from cnn_export.subject import Subject


@dataclass(frozen=True)
class Proven:
    """A network whose fp32 graph was compared with PyTorch, and what its files share.

    Attributes:
        subject: The network.
        settings: The options of the export.
        graph: The fp32 graph, with the inputs and outputs of the model file.
        outputs: Those that this graph gives for the test pictures, in ONNX Runtime.
        certificate: The certificate of the comparison.
        pictures: Golden pictures to choose from.
        dataset: The data set; None if the export needs no training pictures.
        field: The receptive field of the cells of ``evidence``; None without that output.
    """

    subject: Subject
    settings: Settings
    graph: ModelProto
    outputs: Outputs
    certificate: Mapping[str, Any]
    pictures: GoldenPictures
    dataset: Dataset | None
    field: Field | None


@dataclass(frozen=True)
class FinishedFile:
    """A model file, and what the report says about it.

    Attributes:
        content: The bytes.
        confidence: What its probabilities are worth.
        evidence: The proof of the output ``evidence``; None without that output.
        strangers: The rule for strangers; None without the output ``strangeness``.
    """

    content: bytes
    confidence: Confidence
    evidence: EvidenceProof | None
    strangers: Strangers | None


def fp32_file(proven: Proven, validation: Labelled | None) -> FinishedFile:
    """Finish the fp32 file. Its golden pictures have the probabilities of PyTorch.

    Args:
        proven: The network.
        validation: Probabilities of the fp32 graph for the validation pictures, and their classes; None if that split
            is not known.

    Raises:
        ExportError, GraphError, ParityError: as for :func:`cnn_export.export`.
    """
    subject, probabilities = proven.subject, proven.outputs.probabilities
    confidence = confidence_of((probabilities, subject.test.labels), validation, proven.settings.max_error)
    certificate = {**proven.certificate, **confidence.certificate}
    spec = confidence.promised(finished_spec(subject.spec, "fp32", certificate))
    model, spec, evidence, strangers = with_optional_outputs(proven, proven.graph, spec, probabilities)
    content = model_file(subject.folder, model, spec, proven.pictures, subject.reference.probabilities)
    return FinishedFile(content, confidence, evidence, strangers)


def with_optional_outputs(
    proven: Proven, model: ModelProto, spec: Spec, probabilities: NDArray[np.float32]
) -> tuple[ModelProto, Spec, EvidenceProof | None, Strangers | None]:
    """Give a graph the optional outputs of the settings, and prove them on the test pictures.

    Args:
        proven: The network.
        model: The graph of one of its files, fp32 or int8.
        spec: The specification of this file, with a certificate.
        probabilities: Those that the graph gives for the test pictures, float32 (n, classes).

    Returns:
        The graph, its specification, the proof of ``evidence`` and the rule for strangers; None without these outputs.

    Raises:
        ExportError, GraphError, ParityError: as for :func:`cnn_export.export`.
    """
    folder, test, rate = proven.subject.folder, proven.subject.test, proven.settings.strangers
    evidence = strangers = None
    if proven.field is not None:
        model, spec, evidence = with_evidence(folder, model, spec, test.images, proven.field)
    if rate is not None and proven.dataset is not None:
        model, spec, strangers = with_strangeness(folder, model, spec, proven.dataset, test, probabilities, rate)
    return model, spec, evidence, strangers
