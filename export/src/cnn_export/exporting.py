"""The export of a run: :func:`export`, which the command ``cnn-export`` calls.

:func:`export_subject` is the part that every export has in common, from the graph of a network to the written files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cnn_infer.run_files import CANDIDATES, EXPORT_REPORT, FAILED_REPORT, FP32_MODEL, INT8_MODEL, REJECTED_MODEL
from cnn_infer.runtime import load_runtime
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_bytes, write_text
from cnn_train import Run, Split
from onnx import ModelProto, defs

from cnn_export.errors import ExportError
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.int8 import search_plot
from cnn_export.int8.arithmetic import is_here
from cnn_export.int8.qat import fine_tune
from cnn_export.int8.quantize import calibration_set
from cnn_export.int8.report import Int8, on_test
from cnn_export.int8.search import Search
from cnn_export.int8.targets import target_of
from cnn_export.model_file import finished_spec, golden_pictures as choose_golden_pictures, model_file
from cnn_export.options import (
    CALIBRATION_PICTURES,
    GOLDEN_PICTURES,
    OPSET,
    OPTIONS,
    SEARCH_SECONDS,
    TOLERANCE,
    check_values,
    without_effect,
)
from cnn_export.parity import Parity
from cnn_export.proof import certificate_of, fp32_evaluator, prove, pytorch_outputs, with_validation
from cnn_export.reports import json_text
from cnn_export.run_data import open_run_source, read_dataset, read_test_split, read_validation_split
from cnn_export.subject import Subject

log = logging.getLogger(__name__)


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
        int8: The int8 model; None if it was not requested.
        machine: The machine on which this was measured.
        notes: What the user should know about the data and the network, for a network from elsewhere.
    """

    folder: Path
    run: Run | None
    ship: Path
    bytes: int
    accuracy: float
    parity: Parity
    int8: Int8 | None
    machine: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the content of ``export.json``."""
        document = {
            "ship": self.ship.name,
            "fp32": {"file": FP32_MODEL, "bytes": self.bytes, "accuracy": self.accuracy},
            "parity": asdict(self.parity),
            "int8": asdict(self.int8) if self.int8 else None,
            "machine": self.machine,
            **({"notes": self.notes} if self.notes else {}),
        }
        return json_text(document)


def export(
    run: Run | str | os.PathLike[str] | None = None,
    *,
    quantize: bool = False,
    data: str | os.PathLike[str] | None = None,
    tolerance: float = TOLERANCE,
    max_drop: float | None = None,
    golden_pictures: int = GOLDEN_PICTURES,
    calibration_pictures: int = CALIBRATION_PICTURES,
    search_seconds: float = SEARCH_SECONDS,
    target: str | None = None,
    opset: int = OPSET,
    qat: bool = False,
) -> Export:
    """Export a run to ``model.onnx``, optionally also to int8, and check both on the whole test split.

    Args:
        run: A run or its folder; None for the newest under ``runs/``.
        quantize: Also make an int8 model. It ships only if it is accurate enough and faster on this machine. A model
            for other processors is evaluated in their arithmetic, and its speed is not measured.
        data: New place of the run's data set, if it has moved.
        tolerance: Largest accepted difference of a probability between PyTorch and the file, 0 to 1.
        max_drop: Largest accepted loss of validation accuracy of int8, in percentage points, 0 to 100. None for 0.1,
            or for one picture where that is more.
        golden_pictures: Number of test pictures stored inside the model for ``cnn-infer --verify``, 0 to 8.
        calibration_pictures: Number of training pictures that the calibration ranges of int8 are computed from.
        search_seconds: Time limit of the search for the best int8 model. At least one candidate is evaluated.
        target: Processors that the int8 model is for, one of :data:`cnn_export.options.TARGETS`; None for ``any``.
        opset: ONNX opset version of the files, at least 18.
        qat: Also fine-tune the best int8 model (quantization-aware training).

    Raises:
        RunError: there is no such run, or its training is not finished.
        ExportError: an option is not accepted or has no effect, or the data set is missing or not that of the run.
        GraphError: the network cannot be exported.
        ParityError: the file does not compute what was trained. The files of an earlier export are kept.
        DeviceError: ONNX Runtime is not installed.
    """
    check_options(
        {
            "quantize": quantize,
            "tolerance": tolerance,
            "max_drop": max_drop,
            "golden_pictures": golden_pictures,
            "calibration_pictures": calibration_pictures,
            "search_seconds": search_seconds,
            "target": target,
            "opset": opset,
            "qat": qat,
        }
    )
    load_runtime()  # if it is missing, say so before the work starts
    if not isinstance(run, Run):
        run = Run.newest() if run is None else Run.open(run)
    source = open_run_source(run, data)
    test = read_test_split(run, source)
    network = run.network()
    reference = pytorch_outputs(run, network, test)  # before the exporter, which may change the network
    subject = Subject(
        folder=run.path,
        spec=run.spec,
        graph=float_graph(network, run.spec, opset),
        source=source,
        test=test,
        reference=reference,
        dataset=partial(read_dataset, run, source),
        validation=partial(read_validation_split, run, source),
        seed=run.config.seed,
        run=run,
    )
    return export_subject(
        subject,
        quantize=quantize,
        tolerance=tolerance,
        max_drop=max_drop,
        golden_pictures=golden_pictures,
        calibration_pictures=calibration_pictures,
        search_seconds=search_seconds,
        target=target,
        tune=partial(_fine_tune, run) if qat else None,
    )


def export_subject(
    subject: Subject,
    *,
    quantize: bool,
    tolerance: float,
    max_drop: float | None,
    golden_pictures: int,
    calibration_pictures: int,
    search_seconds: float,
    target: str | None,
    tune: Callable[[ModelProto, Split, ModelProto], ModelProto] | None = None,
) -> Export:
    """Check a network's graph on the whole test split, make the int8 model if requested, and write the files.

    Args:
        subject: The network. The other arguments are those of :func:`export`.
        tune: Fine-tunes an int8 graph: takes the float graph, the training split and the int8 graph. None for no
            fine-tuning.

    Raises:
        ExportError, GraphError, ParityError: as for :func:`export`.
    """
    folder, spec, graph, test, reference = subject.folder, subject.spec, subject.graph, subject.test, subject.reference
    candidate = keep_contract(graph, spec)
    parity, outputs = prove(folder, spec, candidate, test, reference, tolerance)
    certificate = certificate_of(spec, test, parity)
    pictures = choose_golden_pictures(spec, subject.source, test, reference, golden_pictures)
    dataset = subject.dataset() if quantize else None
    validation = dataset.val if dataset else subject.validation()
    finished = finished_spec(spec, "fp32", with_validation(certificate, validation, fp32_evaluator(spec, candidate)))
    fp32 = model_file(folder, candidate, finished, pictures, reference.probabilities)
    files, int8, found = {FP32_MODEL: fp32}, None, None
    if dataset:
        picked = calibration_set(dataset.train.labels, subject.seed, calibration_pictures)
        kind, calibration = target_of(target), dataset.train.images[picked]
        tuned = partial(tune, graph, dataset.train) if tune else None
        search = Search(graph, fp32, calibration, dataset.val, spec, kind, max_drop, tuned)
        found = search.run(search_seconds)
        int8, after, evaluate = on_test(found, fp32, test, spec, kind, len(picked))
        # a model that loses too much is not run anywhere, so it needs no golden pictures; one that is only slow on this
        # machine may be faster on another
        carried = pictures if int8.verdict.good_enough else replace(pictures, most=0)
        replays = is_here(kind) and int8.verdict.good_enough  # a model that gives NaN cannot replay its own outputs
        compute = None if replays else lambda batch: evaluate(batch, None).probabilities
        proven = {**with_validation(certificate, dataset.val, evaluate), "fp32_against_int8": int8.certificate}
        finished = finished_spec(spec, "int8", proven)
        files[int8.file] = model_file(folder, found.model, finished, carried, after.probabilities, compute)
        int8 = replace(int8, bytes=len(files[int8.file]))
    result = Export(
        folder=folder,
        run=subject.run,
        ship=folder / (INT8_MODEL if int8 is not None and int8.verdict.ships else FP32_MODEL),
        bytes=len(fp32),
        accuracy=float((outputs.probabilities.argmax(axis=1) == test.labels).mean()),
        parity=parity,
        int8=int8,
        machine=machine.description(),
        notes=subject.notes,
    )
    _write(folder, files, result)
    if found is not None:
        search_plot.draw(found.candidates, found.winner, folder / CANDIDATES)
    return result


def check_options(options: Mapping[str, Any]) -> None:
    """Raise :class:`ExportError` for a value that is not accepted, or an option without effect.

    Args:
        options: ``quantize`` and ``opset``, and any other of :data:`cnn_export.options.OPTIONS`.
    """
    check_values(options)
    most = defs.onnx_opset_version()
    if options["opset"] > most:
        raise ExportError(f"opset must be at most {most} with the installed onnx, not {options['opset']}")
    changed = [name for name, value in options.items() if value != OPTIONS[name].default]
    unused = without_effect(changed, quantize=options["quantize"])
    if unused:
        raise ExportError(f"no effect without quantize=True: {', '.join(unused)}")


def _fine_tune(run: Run, graph: ModelProto, train: Split, quantized: ModelProto) -> ModelProto:
    return fine_tune(quantized, graph, run.network(), train, run.spec, run.config)


def _write(folder: Path, files: Mapping[str, bytes], result: Export) -> None:
    """Write all files at the end, so that an interrupted export leaves the earlier one as it was."""
    for name, content in files.items():
        write_bytes(folder / name, content)
    write_text(folder / EXPORT_REPORT, result.to_json() + "\n")
    # files that an earlier export left and this one did not write belong to another model
    outdated = {INT8_MODEL, REJECTED_MODEL, FAILED_REPORT} | (set() if result.int8 else {CANDIDATES})
    for name in sorted(outdated - files.keys()):
        if (folder / name).exists():
            (folder / name).unlink()
            log.info(f"removed {folder / name} of an earlier export")
