"""The result of an export, and the content of ``export.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cnn_infer.run_files import FP32_MODEL
from cnn_train import Run

from cnn_export.confidence import Confidence
from cnn_export.evidence import EvidenceProof
from cnn_export.half import Half
from cnn_export.int8.report import Int8
from cnn_export.parity import Parity
from cnn_export.reports import json_text
from cnn_export.strangers import Strangers


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        folder: The folder with the files.
        run: The exported run, whose folder it is; None for a network from :func:`cnn_export.export_network`.
        ship: The file that cnn-infer uses: the int8 model if it ships, else the fp32 model.
        bytes: Size of the fp32 file.
        accuracy: Accuracy of the fp32 file on the test split in ONNX Runtime, 0 to 1.
        parity: Comparison of the fp32 file with PyTorch.
        half: The fp16 model; None if it was not requested. If it does not compute what was trained, ``half.failed`` is
            the reason, and its file is not written.
        int8: The int8 model; None if it was not requested.
        confidence: What the probabilities of the files are worth, ``fp32`` and, if requested, ``fp16`` and ``int8``.
        evidence: The proof of the output ``evidence``, ``fp32`` and ``int8``; empty if it was not requested. A rejected
            int8 model does not have the output.
        strangers: The rule for strangers, likewise.
        machine: The machine on which this was measured.
        notes: What the user should know about the data and the network.
    """

    folder: Path
    run: Run | None
    ship: Path
    bytes: int
    accuracy: float
    parity: Parity
    half: Half | None
    int8: Int8 | None
    confidence: Mapping[str, Confidence]
    evidence: Mapping[str, EvidenceProof]
    strangers: Mapping[str, Strangers]
    machine: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the content of ``export.json``."""
        document = {
            "ship": self.ship.name,
            "fp32": {"file": FP32_MODEL, "bytes": self.bytes, "accuracy": self.accuracy},
            "parity": asdict(self.parity),
            **({"half": asdict(self.half)} if self.half else {}),
            "int8": asdict(self.int8) if self.int8 else None,
            "calibration": {name: found.calibration for name, found in self.confidence.items()},
            "guarantee": {name: _promise_entry(found) for name, found in self.confidence.items()},
            **({"evidence": {name: asdict(proof) for name, proof in self.evidence.items()}} if self.evidence else {}),
            **({"strangers": {name: asdict(rule) for name, rule in self.strangers.items()}} if self.strangers else {}),
            "machine": self.machine,
            **({"notes": self.notes} if self.notes else {}),
        }
        return json_text(document)


def _promise_entry(confidence: Confidence) -> dict[str, Any] | None:
    """The guarantee for ``export.json``: the promise, or why it was refused; None if it was not asked for."""
    if confidence.guarantee is not None:
        return confidence.guarantee.to_json()
    return {"refused": confidence.refused} if confidence.refused else None
