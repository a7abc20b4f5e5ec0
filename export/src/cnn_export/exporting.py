"""Export from a run folder to a proven model: :func:`export`, which the command ``cnn-export`` calls."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cnn_infer import Spec, golden, open_model, verify
from cnn_infer.classifier import Classifier
from cnn_infer.model import GOLDEN_KEY, SPEC_KEY
from cnn_infer.run_files import CANDIDATES, EXPORT_REPORT, FAILED_REPORT, FP32_MODEL, INT8_MODEL, REJECTED_MODEL
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_bytes, write_text
from cnn_train import Run, Split
from cnn_train.replay import cross_entropy, logits_of, probabilities_of
from numpy.typing import NDArray
from onnx import ModelProto, defs
from torch import nn

from cnn_export.errors import ExportError
from cnn_export.graph.float_graph import LEAST_OPSET, OPSET, float_graph, keep_contract, with_metadata
from cnn_export.int8 import search_picture
from cnn_export.int8.qat import fine_tune
from cnn_export.int8.quantize import CALIBRATION_PICTURES, calibration_set
from cnn_export.int8.report import Int8, on_test
from cnn_export.int8.search import SECONDS, Search
from cnn_export.int8.targets import TARGETS, target_of
from cnn_export.parity import BATCHES, FULL_BATCH, Outputs, Parity, check, run_model
from cnn_export.provenance import finite, open_run_source, parity_failure, read_dataset, read_test_split
from cnn_export.selection import classes_in_turn

log = logging.getLogger(__name__)

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        run: Where it came from; the files lie in its folder.
        ship: The file that cnn-infer takes: int8 where it was decided so, else fp32.
        bytes: Size of the fp32 file.
        accuracy: Of the fp32 file on the test split, 0 to 1.
        parity: PyTorch against the fp32 file.
        int8: None where it was not asked for.
        machine: Where this was measured.
    """

    run: Run
    ship: Path
    bytes: int
    accuracy: float
    parity: Parity
    int8: Int8 | None
    machine: str

    def to_json(self) -> str:
        """The document in ``export.json``."""
        document = {
            "ship": self.ship.name,
            "fp32": {"file": FP32_MODEL, "bytes": self.bytes, "accuracy": self.accuracy},
            "parity": asdict(self.parity),
            "int8": asdict(self.int8) if self.int8 else None,
            "machine": self.machine,
        }
        return json.dumps(finite(document), ensure_ascii=False, indent=2)


def export(
    run: Run | str | os.PathLike[str] | None = None,
    *,
    quantize: bool = False,
    data: str | os.PathLike[str] | None = None,
    tolerance: float = TOLERANCE,
    max_drop: float | None = None,
    golden_pictures: int = golden.MAX_PICTURES,
    calibration_pictures: int = CALIBRATION_PICTURES,
    search_seconds: float = SECONDS,
    target: str | None = None,
    opset: int = OPSET,
    qat: bool = False,
) -> Export:
    """Export a run to ``model.onnx``, and to int8, and prove both on the whole test split.

    Args:
        run: A run or its folder; None takes the newest under ``runs/``.
        quantize: Also make ``model.int8.onnx``; it ships only if it loses little and is faster here.
        data: Where the run's data set lies now, if it has moved.
        tolerance: Largest difference of a probability between PyTorch and the file.
        max_drop: Validation accuracy that int8 may lose, in percentage points; None for 0.1, or one net picture
            where that is more.
        golden_pictures: Test pictures to carry inside for ``cnn-infer --verify``; 0 for none.
        calibration_pictures: Training pictures that the int8 ranges come from.
        search_seconds: How long to look for a better int8 form; one is always tried.
        target: Processors that int8 is for, out of :data:`cnn_export.int8.targets.TARGETS`; None for this machine's.
        opset: Version of ONNX's operators to write, from 18 up.
        qat: Also fine-tune the best int8 form under its own rounding.

    Raises:
        RunError: no such run, or its training is not finished.
        ExportError: an option makes no sense, or the data set is not the one that was trained on or cannot be found.
        GraphError: the network cannot be exported.
        ParityError: the file does not compute what was trained. Earlier files of the run stay as they are.
    """
    if not 0 <= tolerance <= 1 or not 0 <= (0 if max_drop is None else max_drop) <= 100:
        raise ExportError("the tolerance must be from 0 to 1 and the largest drop from 0 to 100 percentage points")
    if not LEAST_OPSET <= opset <= defs.onnx_opset_version():
        raise ExportError(f"the opset must be from {LEAST_OPSET} to {defs.onnx_opset_version()}, not {opset}")
    if target is not None and target not in TARGETS:
        raise ExportError(f"the target must be one of {', '.join(TARGETS)}, not {target!r}")
    if qat and not quantize:
        raise ExportError("--qat fine-tunes int8: pass --quantize as well")
    if not isinstance(run, Run):
        run = Run.newest() if run is None else Run.open(run)
    source = open_run_source(run, data)
    test = read_test_split(run, source)
    network = run.network()
    reference = _reference(run, network, test)  # before the exporter has had its hands on the network
    graph = float_graph(network, run.spec, opset)
    candidate = keep_contract(graph, run.spec)
    parity = _parity(run, candidate, test, reference, tolerance)
    certificate = _certificate(run, test, parity)
    pictures = _Golden(test.images, _golden_order(reference, test), golden_pictures)
    fp32 = _file(run, candidate, _described(run.spec, "fp32", certificate), pictures, reference.probabilities)
    files, int8, found = {FP32_MODEL: fp32}, None, None
    if quantize:
        dataset = read_dataset(run, source)
        picked = calibration_set(dataset.train.labels, run.config.seed, calibration_pictures)
        kind, calibration = target_of(target), dataset.train.images[picked]
        tune = partial(_tuned, run, graph, dataset.train) if qat else None
        search = Search(graph, fp32, calibration, dataset.val, run.spec, kind, max_drop, tune)
        found = search.run(search_seconds)
        int8, after = on_test(found, fp32, test, run.spec, kind, len(picked))
        proof = {**certificate, "fp32_against_int8": int8.certificate}
        carried = (
            pictures if int8.verdict.ships else replace(pictures, most=0)
        )  # what is rejected need not prove itself
        quantized = _file(run, found.model, _described(run.spec, "int8", proof), carried, after.probabilities)
        int8 = replace(int8, bytes=len(quantized))
        files[int8.file] = quantized
    ship = run.path / (INT8_MODEL if int8 is not None and int8.verdict.ships else FP32_MODEL)
    result = Export(
        run=run,
        ship=ship,
        bytes=len(fp32),
        accuracy=float((reference.logits.argmax(axis=1) == test.labels).mean()),
        parity=parity,
        int8=int8,
        machine=machine.description(),
    )
    _write(run, files, result)
    if found is not None:
        search_picture.draw(found.candidates, found.winner, run.path / CANDIDATES)
    return result


def _tuned(run: Run, graph: ModelProto, train: Split, quantized: ModelProto) -> ModelProto:
    return fine_tune(quantized, graph, run.network(), train, run.spec, run.config)


def _write(run: Run, files: Mapping[str, bytes], result: Export) -> None:
    """All that was made, at the end: what is interrupted before leaves the earlier export as it was."""
    for name, content in files.items():
        write_bytes(run.path / name, content)
    write_text(run.path / EXPORT_REPORT, result.to_json() + "\n")
    # what an earlier export of this run left and this one did not write is not of this model
    for name in sorted(
        {INT8_MODEL, REJECTED_MODEL, FAILED_REPORT, *([] if result.int8 else [CANDIDATES])} - files.keys()
    ):
        if (run.path / name).exists():
            (run.path / name).unlink()
            log.info(f"removed {run.path / name} of an earlier export")


def _reference(run: Run, network: nn.Module, test: Split) -> Outputs:
    """What the trained network says of the test pictures: PyTorch, CPU, fp32."""
    logits = logits_of(network, test.images, run.spec, torch.device("cpu"))
    expected, found = run.report["test"]["loss"], cross_entropy(logits, test.labels)
    # weights, normalisation and pixels are those that were tested, or this is another number
    if not abs(found - expected) <= 1e-3 * max(1.0, expected):
        reason = f"the network has a test loss of {found:.5g} here and had {expected:.5g} when it was trained"
        raise parity_failure(run, reason, {"loss": found, "loss_in_training": expected})
    return Outputs(logits / np.float32(run.spec.temperature), probabilities_of(logits, run.spec.temperature))


def _parity(run: Run, candidate: ModelProto, test: Split, reference: Outputs, tolerance: float) -> Parity:
    data = with_metadata(candidate, run.spec, {SPEC_KEY: run.spec.to_json()})
    model = open_model(data, device="cpu")
    sizes = sorted({min(size, len(test.images)) for size in (*BATCHES, FULL_BATCH)})
    found = [(size, run_model(model, test.images, size, f"parity at batch {size}")) for size in sizes]
    parity = check(reference, found, test.names, tolerance)
    if not parity.passed:
        raise parity_failure(run, parity.reason, asdict(parity))
    return parity


def _certificate(run: Run, test: Split, parity: Parity) -> dict[str, Any]:
    """What travels inside the model: parity in figures, where and with what it was measured."""
    names = ("cnn-export", "torch", "onnx", "pillow", "simplejpeg", "numpy")
    # asked of the module: the distribution is called onnxruntime or onnxruntime-gpu
    versions = {name: metadata.version(name) for name in names} | {"onnxruntime": onnxruntime.__version__}
    return {
        "test_fingerprint": run.spec.details["data"]["fingerprints"]["test"],
        "images": len(test.labels),
        "torch_against_onnx": {**asdict(parity), "flips": len(parity.flips)},
        "machine": machine.description(),
        "instruction_set": machine.instruction_set(),
        "versions": versions,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _described(spec: Spec, precision: str, certificate: Mapping[str, Any]) -> Spec:
    """The specification as it travels: with the certificate, without the places of the machine it was made on."""
    data = {key: value for key, value in spec.details["data"].items() if key != "location"}
    places = ("data", "data_dir", "cache")
    settings = {key: value for key, value in spec.details["settings"].items() if key not in places}
    details = {**spec.details, "data": data, "settings": settings, "precision": precision, "parity": certificate}
    return replace(spec, details=details)


@dataclass(frozen=True)
class _Golden:
    """Test pictures, the order in which they are to be carried inside, and how many at most."""

    images: NDArray[np.uint8]
    order: NDArray[np.int64]
    most: int


def _golden_order(reference: Outputs, test: Split) -> NDArray[np.int64]:
    """The classes in turn, right ones with a clear margin first; some more than fit, since some are too large."""
    ranked = np.sort(reference.probabilities, axis=1)
    clear = (ranked[:, -1] - ranked[:, -2] > 0.2) & (reference.logits.argmax(axis=1) == test.labels)
    order = np.argsort(~clear, kind="stable")
    return classes_in_turn(test.labels, order)[: 8 * golden.MAX_PICTURES]


def _file(run: Run, model: ModelProto, spec: Spec, pictures: _Golden, probabilities: NDArray[np.float32]) -> bytes:
    """The bytes of a model with all its metadata, opened and replayed once before anyone sees them."""
    packed = golden.pack(pictures.images[pictures.order], probabilities[pictures.order], pictures.most)
    data = with_metadata(model, spec, {SPEC_KEY: spec.to_json(), GOLDEN_KEY: packed})
    classifier = Classifier(data, device="cpu")
    if packed != "[]" and not all(replay.passed for replay in verify(classifier)):
        raise parity_failure(run, "the file does not give what it must for its own golden pictures", {})
    if packed == "[]" and pictures.most:
        log.info(f"no test picture fits into {golden.MAX_BYTES >> 10} KiB: the model carries none for --verify")
    return data
