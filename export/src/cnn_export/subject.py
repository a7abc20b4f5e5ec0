"""The subject of an export: a network, from a run or from elsewhere, with its data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cnn_infer.spec import Spec
from cnn_train import Dataset, Run, Source, Split
from onnx import ModelProto

from cnn_export.parity import Outputs


@dataclass(frozen=True)
class Subject:
    """A network with everything that its export needs.

    Attributes:
        folder: The folder for the files.
        spec: Specification of the model: input, classes, normalisation, temperature; without a certificate.
        graph: The network as a float graph, from :func:`cnn_export.graph.float_graph.float_graph`.
        source: The data set.
        test: The test split.
        reference: PyTorch's outputs for the test split, on the CPU in fp32.
        dataset: Returns the decoded data set. Called if the export needs training pictures: for an int8 or fp16 model,
            or for the rule for strangers.
        validation: Returns the validation split, or None if it is not known. Called if ``dataset`` is not.
        seed: Random seed of the calibration pictures.
        run: The run that the network is from, or None.
        notes: What the user should know about the data and the network.
    """

    folder: Path
    spec: Spec
    graph: ModelProto
    source: Source
    test: Split
    reference: Outputs
    dataset: Callable[[], Dataset]
    validation: Callable[[], Split | None]
    seed: int
    run: Run | None = None
    notes: tuple[str, ...] = ()
