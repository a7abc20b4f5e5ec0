"""The export of a run: :func:`export`, which the command ``cnn-export`` calls.

:func:`export_subject` is the part that every export has in common, from the graph of a network to the written files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
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
from cnn_train import Dataset, Run, Split, plots
from numpy.typing import NDArray
from onnx import ModelProto, defs

from cnn_export.confidence import confidence_of
from cnn_export.errors import ExportError
from cnn_export.evidence import field_of
from cnn_export.export_result import Export
from cnn_export.finished_file import FinishedFile, Proven, fp32_file, with_optional_outputs
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.half import FP16, half_model
from cnn_export.int8 import search_plot
from cnn_export.int8.arithmetic import is_here
from cnn_export.int8.qat import fine_tune
from cnn_export.int8.quantize import calibration_set
from cnn_export.int8.report import Int8, on_test
from cnn_export.int8.search import Search, SearchResult
from cnn_export.int8.targets import target_of
from cnn_export.model_file import finished_spec, golden_pictures as choose_golden_pictures, model_file
from cnn_export.options import RunOptions, Settings
from cnn_export.previous import left_out
from cnn_export.proof import certificate_of, evaluator_here, prove, pytorch_outputs
from cnn_export.run_data import open_run, open_run_source, read_dataset, read_test_split, read_validation_split
from cnn_export.selective import Labelled
from cnn_export.strangers import check_network
from cnn_export.subject import Subject

log = logging.getLogger(__name__)


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
    folder, spec, test = subject.folder, subject.spec, subject.test
    for sentence in left_out(folder, settings):
        log.warning(sentence)
    graph = keep_contract(subject.graph, spec)
    field = field_of(graph) if settings.evidence else None  # refuse a network without evidence before the work starts
    if settings.strangers is not None:
        check_network(graph, target_of(settings.target) if settings.quantize else None)
    parity, outputs = prove(folder, spec, graph, test, subject.reference, settings.tolerance)
    certificate = certificate_of(spec, test, parity)
    pictures = choose_golden_pictures(spec, subject.source, test, subject.reference, settings.golden_pictures)
    dataset = subject.dataset() if settings.needs_training_pictures else None
    proven = Proven(subject, settings, graph, outputs, certificate, pictures, dataset, field)
    validation = _validation(proven)
    fp32 = fp32_file(proven, validation)
    files, contents = {"fp32": fp32}, {FP32_MODEL: fp32.content}
    confidence = {"fp32": fp32.confidence}
    half, int8, search = None, None, None
    if dataset and settings.half:
        half, content, worth = half_model(subject, graph, dataset, pictures, certificate, settings.max_error)
        if worth is not None:
            contents[HALF_MODEL], confidence[FP16] = content, worth
    if dataset and validation and settings.quantize:
        int8, files["int8"], search = _int8_file(proven, dataset, fp32.content, validation[0], tune)
        contents[int8.file], confidence["int8"] = files["int8"].content, files["int8"].confidence
    proof = fp32.evidence
    result = Export(
        folder=folder,
        run=subject.run,
        ship=folder / (INT8_MODEL if int8 is not None and int8.verdict.ships else FP32_MODEL),
        bytes=len(fp32.content),
        accuracy=float((outputs.probabilities.argmax(axis=1) == test.labels).mean()),
        parity=parity,
        half=half,
        int8=int8,
        confidence=confidence,
        evidence={name: file.evidence for name, file in files.items() if file.evidence},
        strangers={name: file.strangers for name, file in files.items() if file.strangers},
        machine=machine.description(),
        notes=(*subject.notes, *(place_notes(proof.cells, proof.sees, (spec.height, spec.width)) if proof else ())),
    )
    _write(folder, contents, result)
    _draw(result, len(test.labels), search)
    return result


def _validation(proven: Proven) -> Labelled | None:
    """The probabilities of fp32 for the validation pictures, and their classes; None if that split is not known."""
    split = proven.dataset.val if proven.dataset else proven.subject.validation()
    if split is None:
        return None
    evaluate = evaluator_here(proven.subject.spec, proven.graph)
    return evaluate(split.images, "validation").probabilities, split.labels


def _int8_file(
    proven: Proven,
    dataset: Dataset,
    fp32: bytes,
    reference: NDArray[np.float32],
    tune: Callable[[ModelProto, Split, ModelProto], ModelProto] | None,
) -> tuple[Int8, FinishedFile, SearchResult]:
    """Search for the int8 model, evaluate it on the test split, and finish its file.

    Args:
        proven: The network.
        dataset: Its data set.
        fp32: The fp32 file.
        reference: Probabilities of fp32 for the validation pictures, float32 (n, classes).
        tune: As for :func:`export_subject`.
    """
    subject, settings, target = proven.subject, proven.settings, target_of(proven.settings.target)
    train, spec, test = dataset.train, subject.spec, subject.test
    picked = calibration_set(train.labels, subject.seed, settings.calibration_pictures)
    tuned = partial(tune, subject.graph, train) if tune else None
    search = Search(
        subject.graph, fp32, train.images[picked], dataset.val, reference, spec, target, settings.max_drop, tuned
    )
    found = search.run(settings.search_seconds)
    int8, outputs, evaluate = on_test(found, proven.outputs, test, spec, target, len(picked))
    answers, validation = (outputs.probabilities, test.labels), (found.probabilities, dataset.val.labels)
    confidence = confidence_of(answers, validation, settings.max_error)
    certificate = {**proven.certificate, **confidence.certificate, "fp32_against_int8": int8.certificate}
    finished = confidence.promised(finished_spec(spec, "int8", certificate))
    model, evidence, strangers, pictures = found.model, None, None, proven.pictures
    if int8.verdict.good_enough:
        model, finished, evidence, strangers = with_optional_outputs(proven, model, finished, outputs.probabilities)
    else:
        # a model that loses too much is not run anywhere, so it needs no golden pictures; one that is only slow on this
        # machine may be faster on another
        pictures = replace(pictures, most=0)
    replays = is_here(target) and int8.verdict.good_enough  # a model that gives NaN cannot replay its own outputs
    compute = None if replays else lambda batch: evaluate(batch, None).probabilities
    content = model_file(subject.folder, model, finished, pictures, outputs.probabilities, compute)
    return replace(int8, bytes=len(content)), FinishedFile(content, confidence, evidence, strangers), found


def _draw(result: Export, pictures: int, search: SearchResult | None) -> None:
    """Draw the reliability of the files on the test pictures, and the candidates of the search for int8."""
    title = f"reliability on {console.quantity(pictures, 'test picture')}, in ONNX Runtime"
    calibrations = {name: found.calibration for name, found in result.confidence.items() if found.calibration}
    plots.save(plots.reliability(calibrations, title), result.folder / EXPORT_RELIABILITY)
    if search is not None:
        search_plot.draw(search.candidates, search.winner, result.folder / CANDIDATES)


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
