"""Where does a difference come from? Every stage from a picture's file to int8 logits, with its noise."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from cnn_infer.errors import ModelError
from cnn_infer.model import INPUT, LOGITS, open_model
from cnn_infer.run_files import FP32_MODEL, INT8_MODEL, REJECTED_MODEL
from cnn_infer.spec import Spec
from cnn_train import Run, Source, Split
from cnn_train.replay import decode_digest, logits_of, to_input
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from cnn_export.errors import ExportError
from cnn_export.graph.passes import makers_of
from cnn_export.graph.tensors import Tensors
from cnn_export.provenance import decode_test_split, open_run_source, recorded_data
from cnn_export.selection import classes_in_turn

PICTURES = 64
DEQUANTIZED = "_DequantizeLinear_Output"
"""What ONNX Runtime's quantiser puts behind a tensor's name for its values after rounding to int8."""


@dataclass(frozen=True)
class Stage:
    """One stage, compared with the same one in training.

    Attributes:
        name: ``decode``, ``resize``, ``normalise``, ``graph``, or ``int8`` and the name of a tensor.
        snr: Signal-to-noise ratio in decibels; infinite where nothing differs, minus infinite where that is all
            that can be said.
        largest: Largest absolute difference.
        note: What was compared with what.
    """

    name: str
    snr: float
    largest: float
    note: str


def explain(
    run: Run | str | os.PathLike[str] | None = None, *, data: str | os.PathLike[str] | None = None
) -> list[Stage]:
    """Compare every stage of what was exported with what was trained, on test pictures; the worst first.

    Args:
        run: A run that was exported, or its folder; None takes the newest under ``runs/``.
        data: Where the run's data set lies now, if it has moved.

    Raises:
        RunError: no such run, or its training is not finished.
        ExportError: the run was not exported, its export is damaged, or its data set is not found.
    """
    if not isinstance(run, Run):
        run = Run.newest() if run is None else Run.open(run)
    fp32 = run.path / FP32_MODEL
    if not fp32.exists():
        raise ExportError(f"{run.path} has no model.onnx to explain: export it first")
    model = _loaded(fp32)
    int8 = [_loaded(run.path / name) for name in (INT8_MODEL, REJECTED_MODEL) if (run.path / name).exists()]
    source = open_run_source(run, data)
    test, same = decode_test_split(run, source)
    some = _some(test)
    stages = [*_pixels(run, source, test, same), _normalisation(run.spec, model), _graph(run, some, model)]
    for rounded in int8:
        stages += _layers(model, rounded, some)
    return sorted(stages, key=lambda stage: stage.snr)


def _loaded(path: Path) -> ModelProto:
    try:
        open_model(path, device="cpu")  # sees more than onnx does, which takes a file without its end for a whole one
    except ModelError as error:
        raise ExportError(f"{error}: export again") from error
    return onnx.load(path)


def _some(test: Split) -> NDArray[np.uint8]:
    """Pictures of all classes: those of a folder come class by class."""
    return test.images[classes_in_turn(test.labels, np.arange(len(test.labels)))[:PICTURES]]


def snr(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Signal-to-noise ratio in decibels: ten times the logarithm of the power of one over that of the difference."""
    signal, noise = (float(np.square(values.astype(np.float64)).sum()) for values in (wanted, wanted - found))
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _stage(name: str, wanted: NDArray[Any], found: NDArray[Any], note: str) -> Stage:
    return Stage(name, snr(wanted, found), float(np.abs(wanted - found).max()), note)


def _pixels(run: Run, source: Source, test: Split, same: bool) -> Iterator[Stage]:
    """Of pixels in training there are digests: the same, or not, is all that can be said."""
    recorded = recorded_data(run).get("test_decoded")
    pictures = source.splits["test"].pictures
    decoded = same or decode_digest(pictures, run.spec) == recorded
    what = f"{min(PICTURES, len(pictures))} test pictures before they are made to fit: in training, now"
    yield Stage("decode", math.inf if decoded else -math.inf, 0.0 if decoded else math.nan, what)
    what = f"the pixels of all {len(test.images):,} test pictures: in training, now"
    yield Stage("resize", math.inf if same else -math.inf, 0.0 if same else math.nan, what)


def _normalisation(spec: Spec, fp32: ModelProto) -> Stage:
    """All 256 values of a byte, as the file's first node turns them into numbers and as training did."""
    picture = np.resize(np.arange(256, dtype=np.uint8), (256, *spec.shape))
    wanted = to_input(picture, spec, torch.device("cpu")).numpy()
    found = Tensors(_first_node(fp32)).run({INPUT: picture.transpose(0, 3, 1, 2)})
    return _stage("normalise", wanted, next(iter(found.values())), "every value of a byte: PyTorch, model.onnx")


def _first_node(fp32: ModelProto) -> ModelProto:
    """The node that turns bytes into numbers, alone."""
    node = next(node for node in fp32.graph.node if node.op_type == "DequantizeLinear")
    bytes_in = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [None] * 4)
    numbers_out = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None] * 4)
    constants = [tensor for tensor in fp32.graph.initializer if tensor.name in node.input]
    alone = helper.make_node("DequantizeLinear", [INPUT, *node.input[1:]], node.output)
    graph = helper.make_graph([alone], "normalise", [bytes_in], [numbers_out], constants)
    return helper.make_model(graph, opset_imports=fp32.opset_import, ir_version=fp32.ir_version)


def _graph(run: Run, pictures: NDArray[np.uint8], fp32: ModelProto) -> Stage:
    wanted = logits_of(run.network(), pictures, run.spec, torch.device("cpu")) / np.float32(run.spec.temperature)
    found = Tensors(fp32).run({INPUT: np.ascontiguousarray(pictures)})[LOGITS]
    return _stage("graph", wanted, found, f"logits of {len(pictures)} test pictures: PyTorch, model.onnx")


def _layers(fp32: ModelProto, int8: ModelProto, pictures: NDArray[np.uint8]) -> Iterator[Stage]:
    wanted, found = (Tensors(model).run({INPUT: np.ascontiguousarray(pictures)}) for model in (fp32, int8))
    makers = makers_of(fp32)
    for name, values in wanted.items():
        rounded = _rounded(name, found)
        if rounded is not None and makers[name].op_type != "Softmax":
            yield _stage(f"int8 {name}", values, rounded, f"what the {makers[name].op_type} gives: model.onnx, int8")


def _rounded(name: str, found: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return found.get(name + DEQUANTIZED, found.get(name))
