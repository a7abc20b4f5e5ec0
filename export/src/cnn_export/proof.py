"""The proof that an exported graph computes what was trained, and the certificate of it inside the model file."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cnn_infer import Spec, open_model
from cnn_infer.runtime import load_runtime
from cnn_infer.system import machine
from cnn_train import Run, Split
from cnn_train.replay import cross_entropy, logits_of, probabilities_of
from onnx import ModelProto
from torch import nn

from cnn_export.graph.float_graph import with_metadata
from cnn_export.parity import BATCHES, FULL_BATCH, Evaluate, Outputs, Parity, check, run_model
from cnn_export.reports import parity_failure

LOSS_TOLERANCE = 1e-3
"""Largest difference of the test loss from the one in training: relative to it, or absolute if it is below 1."""


def pytorch_outputs(run: Run, network: nn.Module, test: Split) -> Outputs:
    """Return the outputs of the trained network for the test pictures, from PyTorch on the CPU in fp32.

    Raises:
        ParityError: the test loss is not the one that training reported, so weights, normalisation or labels are not
            those of the training.
    """
    logits = logits_of(network, test.images, run.spec, torch.device("cpu"))
    expected, found = run.report["test"]["loss"], cross_entropy(logits, test.labels)
    if not abs(found - expected) <= LOSS_TOLERANCE * max(1.0, expected):
        reason = f"the test loss of the network is {found:.5g} now and was {expected:.5g} after training"
        raise parity_failure(run.path, reason, {"loss": found, "loss_in_training": expected})
    return Outputs(logits / np.float32(run.spec.temperature), probabilities_of(logits, run.spec.temperature))


def prove(
    folder: Path, spec: Spec, model: ModelProto, test: Split, reference: Outputs, tolerance: float
) -> tuple[Parity, Outputs]:
    """Run a graph in ONNX Runtime on the test pictures, at several batch sizes, and compare it with PyTorch.

    Args:
        folder: The folder of the export.
        spec: The specification of the network.
        model: The fp32 graph with the inputs and outputs of the model file.
        test: The test pictures.
        reference: PyTorch's outputs for them.
        tolerance: Largest accepted difference of a probability.

    Returns:
        The comparison, and ONNX Runtime's outputs at the largest batch size.

    Raises:
        ParityError: the outputs differ by more than the tolerance.
    """
    opened = open_model(with_metadata(model, spec), device="cpu")
    sizes = sorted({min(size, len(test.images)) for size in (*BATCHES, FULL_BATCH)})
    found = [(size, run_model(opened, test.images, f"parity at batch size {size}", size)) for size in sizes]
    parity = check(reference, found, test.names, tolerance)
    if not parity.passed:
        raise parity_failure(folder, parity.reason, asdict(parity))
    return parity, found[-1][1]


def evaluator_here(spec: Spec, model: ModelProto) -> Evaluate:
    """Return a function that evaluates the graph of a model file in ONNX Runtime, on the CPU of this machine."""
    return partial(run_model, open_model(with_metadata(model, spec), device="cpu"))


def certificate_of(spec: Spec, test: Split, parity: Parity) -> dict[str, Any]:
    """Return the certificate: the result of the parity check, the machine and the library versions."""
    names = ("cnn-export", "torch", "onnx", "pillow", "simplejpeg", "numpy")
    # the version comes from the module because the distribution is called onnxruntime or onnxruntime-gpu
    versions = {name: metadata.version(name) for name in names} | {"onnxruntime": load_runtime().__version__}
    return {
        "test_fingerprint": spec.details["data"]["fingerprints"]["test"],
        "images": len(test.labels),
        "torch_against_onnx": {**asdict(parity), "flips": len(parity.flips)},
        "machine": machine.description(),
        "instruction_set": machine.instruction_set(),
        "versions": versions,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
