"""The fp16 model of an export, for GPUs: made from the fp32 graph, and compared with PyTorch on the test split."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from cnn_infer import Spec
from cnn_infer.model import INPUT
from cnn_infer.run_files import HALF_MODEL
from cnn_train import Dataset
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.accepted_loss import allowed_drop, loses_too_much
from cnn_export.batches import batches
from cnn_export.confidence import Confidence, confidence_of
from cnn_export.errors import GraphError
from cnn_export.graph.float_graph import with_metadata
from cnn_export.graph.half import ROUNDOFF, rounded, to_half, unfit
from cnn_export.int8.quantize import calibration_set
from cnn_export.model_file import GoldenPictures, finished_spec, replayed_file
from cnn_export.options import CALIBRATION_PICTURES
from cnn_export.parity import FULL_BATCH, Outputs, find_flips
from cnn_export.proof import evaluator_here
from cnn_export.subject import Subject

FP16 = "fp16"
"""Name of the precision, in reports and specifications."""

KEY = "fp32_against_fp16"
"""Key of the comparison in the certificate, ``details["parity"]`` of the specification."""

SPREAD = 4.0
"""The tolerance, in units of the error of one rounding times the square root of the number of roundings."""

BATCH = 32
"""Calibration pictures per run: all tensors of a batch are in memory."""

OPEN = "import sys; from cnn_infer import open_model; open_model(sys.stdin.buffer.read(), device='cpu')"
"""A program that opens a model from standard input."""


@dataclass(frozen=True)
class Half:
    """What the fp16 model costs.

    The outputs are computed twice, and each difference below is the larger one: by ONNX Runtime on this machine's CPU,
    which computes the file in fp32, and with each result rounded to fp16, as a GPU does
    (:func:`cnn_export.graph.half.rounded`). Accuracy and flips are those of the second.

    Attributes:
        file: File name.
        bytes: Size of the file.
        images: Number of test pictures, all of them.
        roundings: Number of roundings to fp16 on the longest path from the input to the logits.
        tolerance: Largest accepted difference of a logit from PyTorch in fp32, relative to the largest logit. It is
            :data:`SPREAD` times 2^-11, the error of one rounding, times the square root of the number of roundings.
            Independent errors with mean 0 grow with this root (Higham and Mary, 2019, "A New Approach to Probabilistic
            Rounding Error Analysis", doi:10.1137/18M1226312): n roundings of a single logit stay below the tolerance
            with a probability of at least 1 - 2 exp(-SPREAD^2 / 2), 99.93%, if no cancellation enlarges errors. The
            figure that is checked is the largest of all logits, for which there is no such probability: SPREAD is
            chosen.
        logits: Largest (``max``) and mean (``mean``) absolute difference of the logits, and the largest one relative to
            the largest logit (``relative``), or absolute if all logits are 0.
        probabilities: Largest (``max``) and mean (``mean``) absolute difference of the probabilities.
        accuracy_fp32: Accuracy of PyTorch in fp32 on the test split, 0 to 1.
        accuracy_fp16: Accuracy of the fp16 model, 0 to 1.
        flips: Number of test pictures whose predicted class differs.
        test_flips: These pictures, from :func:`cnn_export.parity.find_flips`.
        floats: The nodes that are kept in fp32, with the reason, by name.
        failed: Why there is no fp16 model: what differs too much. Empty if it passes.
    """

    file: str
    bytes: int
    images: int
    roundings: int
    tolerance: float
    logits: Mapping[str, float]
    probabilities: Mapping[str, float]
    accuracy_fp32: float
    accuracy_fp16: float
    flips: int
    test_flips: list[dict[str, Any]]
    floats: Mapping[str, str]
    failed: str = ""

    @property
    def certificate(self) -> dict[str, Any]:
        """The part that is stored in the certificate inside the model file."""
        document = asdict(self)
        return {key: value for key, value in document.items() if key not in ("file", "bytes", "test_flips", "failed")}


def compare(
    reference: Outputs,
    found: Mapping[str, Outputs],
    labels: NDArray[np.int64],
    names: Sequence[str],
    roundings: int,
    floats: Mapping[str, str],
) -> Half:
    """Compare an fp16 model with PyTorch.

    Args:
        reference: PyTorch's outputs for the test pictures, in fp32.
        found: The outputs of the model: ``cpu``, from the file, and ``gpu``, with each result rounded to fp16.
        labels: Classes of the pictures, int64 (n,).
        names: Names of the pictures.
        roundings: From :func:`cnn_export.graph.half.rounded`.
        floats: From :func:`cnn_export.graph.half.unfit`.

    Returns:
        The comparison, without the size of the file.
    """
    logits = np.max([np.abs(one.logits - reference.logits) for one in found.values()], axis=0)
    gaps = np.max([np.abs(one.probabilities - reference.probabilities) for one in found.values()], axis=0)
    flips = find_flips(reference, found["gpu"], names, 0.0, FULL_BATCH)
    before, after = (one.probabilities.argmax(axis=1) == labels for one in (reference, found["gpu"]))
    difference, largest = float(logits.max()), float(np.abs(reference.logits).max())
    relative = difference / (largest or 1.0)
    half = Half(
        file=HALF_MODEL,
        bytes=0,
        images=len(labels),
        roundings=roundings,
        tolerance=SPREAD * math.sqrt(roundings) * ROUNDOFF,
        logits={"max": difference, "mean": float(logits.mean()), "relative": relative},
        probabilities={"max": float(gaps.max()), "mean": float(gaps.mean())},
        accuracy_fp32=float(before.mean()),
        accuracy_fp16=float(after.mean()),
        flips=len(flips),
        test_flips=flips,
        floats=floats,
    )
    worst = names[int(logits.max(axis=1).argmax())]
    lost = int(before.sum()) - int(after.sum())
    reason = ""
    if not np.isfinite(logits).all():
        reason = f"fp16: an output is not a number (at {worst})"
    elif not relative <= half.tolerance:
        reason = (
            f"fp16: logits differ by up to {relative:.3g}{' of the largest logit' if largest else ''}, more than "
            f"{half.tolerance:.3g} (at {worst})"
        )
    elif loses_too_much(lost, len(labels), allowed := allowed_drop(len(labels))):
        reason = f"fp16 loses {lost:,} of {len(labels):,} test pictures, more than {allowed:.2g} percentage points"
    return replace(half, failed=reason)


def half_model(
    subject: Subject,
    graph: ModelProto,
    dataset: Dataset,
    pictures: GoldenPictures,
    certificate: Mapping[str, Any],
    max_error: float | None,
) -> tuple[Half, bytes, Confidence | None]:
    """Make the fp16 model of a network and prove it.

    Args:
        subject: The network.
        graph: Its finished fp32 graph, from :func:`cnn_export.graph.float_graph.keep_contract`.
        dataset: The data set, for the pictures of calibration and validation.
        pictures: Golden pictures to choose from.
        certificate: The certificate of the fp32 model.
        max_error: The share of wrong answers to guarantee; None for no guarantee.

    Returns:
        The comparison, the content of the file, and what the probabilities are worth. Without content and the last, if
        the fp16 model does not compute what was trained: :attr:`Half.failed` is the reason.

    Raises:
        GraphError: the graph cannot be converted, or ONNX Runtime crashes on the fp16 graph.
    """
    spec, test = subject.spec, subject.test
    picked = calibration_set(dataset.train.labels, subject.seed, CALIBRATION_PICTURES)
    floats = unfit(graph, ({INPUT: batch} for batch in batches(dataset.train.images[picked], BATCH)))
    converted = to_half(graph, floats)
    _check_opens(spec, converted)
    as_on_gpu, roundings = rounded(converted)
    found = {
        "cpu": evaluator_here(spec, converted)(test.images, FP16),
        "gpu": (evaluate := evaluator_here(spec, as_on_gpu))(test.images, "fp16, as a GPU computes it"),
    }
    half = compare(subject.reference, found, test.labels, test.names, roundings, floats)
    if half.failed:
        return half, b"", None
    validation = evaluate(dataset.val.images, "validation").probabilities, dataset.val.labels
    confidence = confidence_of((found["gpu"].probabilities, test.labels), validation, max_error)
    finished = finished_spec(spec, FP16, {**certificate, **confidence.certificate, KEY: half.certificate})
    finished = confidence.promised(finished)
    data, reason = replayed_file(converted, finished, pictures, found["gpu"].probabilities)
    if reason:
        return replace(half, failed=f"fp16: {reason}"), b"", None
    return replace(half, bytes=len(data)), data, confidence


def _check_opens(spec: Spec, model: ModelProto) -> None:
    """Open an fp16 graph in a process of its own first, because it may crash.

    The optimiser of ONNX Runtime 1.32 (MatmulTransposeFusion) accesses invalid memory on fp16 attention layers.
    """
    data = with_metadata(model, spec)
    done = subprocess.run([sys.executable, "-P", "-c", OPEN], input=data, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1 is an exception, which the next opening raises here
        raise GraphError("ONNX Runtime crashes on the fp16 graph: leave out half (--half)")
