"""The export of a run: :func:`export`, which the command ``cnn-export`` calls.

:func:`export_subject` is the part that every export has in common, from the graph of a network to the written files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from cnn_infer import console
from cnn_infer.explanation import place_notes
from cnn_infer.run_files import (
    CANDIDATES,
    EXPORT_RELIABILITY,
    EXPORT_REPORT,
    FAILED_REPORT,
    FP32_MODEL,
    HALF_MODEL,
    INT8_MODEL,
    REJECTED_MODEL,
)
from cnn_infer.runtime import load_runtime
from cnn_infer.system import machine
from cnn_infer.system.atomic import flush_to_disk, replacing
from cnn_train import Run, Split, plots
from onnx import ModelProto, defs

from cnn_export.confidence import Confidence, confidence_of
from cnn_export.errors import ExportError
from cnn_export.evidence import EvidenceProof, with_evidence
from cnn_export.graph.evidence import head_of
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.half import FP16, Half, half_model
from cnn_export.int8 import search_plot
from cnn_export.int8.arithmetic import is_here
from cnn_export.int8.qat import fine_tune
from cnn_export.int8.quantize import calibration_set
from cnn_export.int8.report import Int8, on_test
from cnn_export.int8.search import Search
from cnn_export.int8.targets import target_of
from cnn_export.model_file import finished_spec, golden_pictures as choose_golden_pictures, model_file
from cnn_export.options import RunOptions, Settings
from cnn_export.parity import Parity
from cnn_export.previous import left_out
from cnn_export.proof import certificate_of, evaluator_here, prove, pytorch_outputs
from cnn_export.reports import json_text
from cnn_export.run_data import open_run, open_run_source, read_dataset, read_test_split, read_validation_split
from cnn_export.strangers import Strangers, check_network, with_strangeness
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


def export(
    run: Run | str | os.PathLike[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    **options: Unpack[RunOptions],
) -> Export:
    """Export a run to ``model.onnx``, optionally also to fp16 and int8, and check all on the whole test split.

    Args:
        run: A run or its folder; None for the newest under ``runs/``.
        data: New place of the run's data set, if it has moved.
        **options: The fields of :class:`cnn_export.ExportOptions` and :class:`cnn_export.RunOptions`.

    Raises:
        RunError: there is no such run, or its training is not finished.
        ExportError: an option is not accepted or has no effect, or the data set is missing or not that of the run.
        GraphError: the network cannot be exported.
        ParityError: the file does not compute what was trained. The files of an earlier export are kept. If only the
            fp16 model fails, the other files are written, and :attr:`Export.half` has the reason.
        DeviceError: ONNX Runtime is not installed.
    """
    settings = Settings.of(options, RunOptions)
    check_opset(settings.opset)
    load_runtime()  # if it is missing, say so before the work starts
    run = open_run(run)
    source = open_run_source(run, data)
    test = read_test_split(run, source)
    network = run.network()
    reference = pytorch_outputs(run, network, test)  # before the exporter, which may change the network
    subject = Subject(
        folder=run.path,
        spec=run.spec,
        graph=float_graph(network, run.spec, settings.opset),
        source=source,
        test=test,
        reference=reference,
        dataset=partial(read_dataset, run, source),
        validation=partial(read_validation_split, run, source),
        seed=run.config.seed,
        run=run,
    )
    return export_subject(subject, settings, tune=partial(_fine_tune, run) if settings.qat else None)


def export_subject(
    subject: Subject,
    settings: Settings,
    tune: Callable[[ModelProto, Split, ModelProto], ModelProto] | None = None,
) -> Export:
    """Check a network's graph on the whole test split, make the fp16 and int8 models if requested, write the files.

    Args:
        subject: The network.
        settings: The options of the export.
        tune: Fine-tunes an int8 graph: takes the float graph, the training split and the int8 graph. None for no
            fine-tuning.

    Raises:
        ExportError, GraphError, ParityError: as for :func:`export`.
    """
    folder, spec, graph, test, reference = subject.folder, subject.spec, subject.graph, subject.test, subject.reference
    for sentence in left_out(folder, settings):
        log.warning(sentence)
    candidate = keep_contract(graph, spec)
    if settings.evidence:
        head_of(candidate)  # refuse a network that has no evidence before the work starts
    if settings.strangers is not None:
        check_network(candidate, target_of(settings.target) if settings.quantize else None)
    parity, outputs = prove(folder, spec, candidate, test, reference, settings.tolerance)
    certificate = certificate_of(spec, test, parity)
    pictures = choose_golden_pictures(spec, subject.source, test, reference, settings.golden_pictures)
    dataset = subject.dataset() if settings.needs_training_pictures else None
    validation = dataset.val if dataset else subject.validation()
    fp32_evaluate, limit = evaluator_here(spec, candidate), settings.max_error
    confidence = {"fp32": confidence_of(test, outputs.probabilities, validation, fp32_evaluate, limit)}
    finished = finished_spec(spec, "fp32", {**certificate, **confidence["fp32"].certificate})
    finished = confidence["fp32"].promised(finished)
    evidence: dict[str, EvidenceProof] = {}
    shipped = candidate
    if settings.evidence:
        shipped, finished, evidence["fp32"] = with_evidence(folder, candidate, finished, test.images, candidate)
    strangers: dict[str, Strangers] = {}
    if dataset and (rate := settings.strangers) is not None:
        shipped, finished, strangers["fp32"] = with_strangeness(folder, shipped, finished, dataset, test, rate)
    fp32 = model_file(folder, shipped, finished, pictures, reference.probabilities)
    files, half, int8, found = {FP32_MODEL: fp32}, None, None, None
    if dataset and settings.half:
        half, content, worth = half_model(subject, candidate, dataset, pictures, certificate, limit)
        if worth is not None:
            files[HALF_MODEL], confidence[FP16] = content, worth
    if dataset and settings.quantize:
        picked = calibration_set(dataset.train.labels, subject.seed, settings.calibration_pictures)
        kind, calibration = target_of(settings.target), dataset.train.images[picked]
        tuned = partial(tune, graph, dataset.train) if tune else None
        search = Search(graph, fp32, calibration, dataset.val, spec, kind, settings.max_drop, tuned)
        found = search.run(settings.search_seconds)
        int8, after, evaluate = on_test(found, fp32, test, spec, kind, len(picked))
        # a model that loses too much is not run anywhere, so it needs no golden pictures; one that is only slow on this
        # machine may be faster on another
        carried = pictures if int8.verdict.good_enough else replace(pictures, most=0)
        replays = is_here(kind) and int8.verdict.good_enough  # a model that gives NaN cannot replay its own outputs
        compute = None if replays else lambda batch: evaluate(batch, None).probabilities
        confidence["int8"] = confidence_of(test, after.probabilities, dataset.val, evaluate, limit)
        proven = {**certificate, **confidence["int8"].certificate, "fp32_against_int8": int8.certificate}
        finished = confidence["int8"].promised(finished_spec(spec, "int8", proven))
        shipped = found.model
        if settings.evidence and int8.verdict.good_enough:
            shipped, finished, evidence["int8"] = with_evidence(folder, found.model, finished, test.images, candidate)
        if (rate := settings.strangers) is not None and int8.verdict.good_enough:
            shipped, finished, strangers["int8"] = with_strangeness(folder, shipped, finished, dataset, test, rate)
        files[int8.file] = model_file(folder, shipped, finished, carried, after.probabilities, compute)
        int8 = replace(int8, bytes=len(files[int8.file]))
    proof = evidence.get("fp32")
    result = Export(
        folder=folder,
        run=subject.run,
        ship=folder / (INT8_MODEL if int8 is not None and int8.verdict.ships else FP32_MODEL),
        bytes=len(fp32),
        accuracy=float((outputs.probabilities.argmax(axis=1) == test.labels).mean()),
        parity=parity,
        half=half,
        int8=int8,
        confidence=confidence,
        evidence=evidence,
        strangers=strangers,
        machine=machine.description(),
        notes=(*subject.notes, *(place_notes(proof.cells, proof.sees, (spec.height, spec.width)) if proof else ())),
    )
    _write(folder, files, result)
    calibrations = {name: found.calibration for name, found in confidence.items() if found.calibration}
    if calibrations:
        title = f"reliability on {console.quantity(len(test.labels), 'test picture')}, in ONNX Runtime"
        plots.save(plots.reliability(calibrations, title), folder / EXPORT_RELIABILITY)
    if found is not None:
        search_plot.draw(found.candidates, found.winner, folder / CANDIDATES)
    return result


def _promise_entry(confidence: Confidence) -> dict[str, Any] | None:
    """The guarantee for ``export.json``: the promise, or why it was refused; None if it was not asked for."""
    if confidence.guarantee is not None:
        return confidence.guarantee.to_json()
    return {"refused": confidence.refused} if confidence.refused else None


def check_opset(opset: int) -> None:
    """Raise :class:`ExportError` for an opset that the installed onnx does not know."""
    most = defs.onnx_opset_version()
    if opset > most:
        raise ExportError(f"opset must be at most {most} with the installed onnx, not {opset}")


def _fine_tune(run: Run, graph: ModelProto, train: Split, quantized: ModelProto) -> ModelProto:
    return fine_tune(quantized, graph, run.network(), train, run.spec, run.config)


def _write(folder: Path, files: Mapping[str, bytes], result: Export) -> None:
    """Write all files at the end, so that an interrupted export leaves the earlier one as it was.

    No file is replaced before all of them are on the disk, because the disk may be full.
    """
    contents = {EXPORT_REPORT: (result.to_json() + "\n").encode(), **files}
    with ExitStack() as stack:  # it ends in reverse order, so that the report is replaced last
        for name, content in contents.items():
            stream = stack.enter_context(replacing(folder / name))
            stream.write(content)
            flush_to_disk(stream)
    # files that an earlier export left and this one did not write belong to another model
    outdated = {HALF_MODEL, INT8_MODEL, REJECTED_MODEL, FAILED_REPORT} | (set() if result.int8 else {CANDIDATES})
    for name in sorted(outdated - files.keys()):
        if (folder / name).exists():
            (folder / name).unlink()
            log.info(f"removed {folder / name} of an earlier export")
