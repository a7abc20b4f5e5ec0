"""The comparison of each stage with training, from the file of a picture to the int8 logits."""

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
from cnn_infer.optional_outputs import select_outputs
from cnn_infer.run_files import FP32_MODEL, INT8_MODEL, REJECTED_MODEL
from cnn_infer.runtime import load_runtime
from cnn_infer.spec import Spec
from cnn_train import Run, Source, Split
from cnn_train.replay import decode_digest, logits_of, to_input
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from cnn_export.errors import ExportError
from cnn_export.exported_run import exported_folder
from cnn_export.graph.lookup import makers_of
from cnn_export.graph.tensors import Tensors
from cnn_export.run_data import decode_test_split, open_run, open_run_source, recorded_data
from cnn_export.selection import classes_in_turn

PICTURES = 64
"""Number of test pictures that ``decode``, ``graph`` and ``int8`` are compared on. It is that of training's digest."""

DEQUANTIZED = "_DequantizeLinear_Output"
"""Suffix that ONNX Runtime's quantizer adds to the name of a tensor for its values after rounding to int8."""


@dataclass(frozen=True)
class Stage:
    """The comparison of one stage with training.

    Attributes:
        name: ``decode``, ``resize``, ``normalise``, ``graph``, or ``int8`` and the name of a tensor.
        snr: Signal-to-noise ratio in decibels; infinity if nothing differs. Of pixels only a digest is known from
            training: minus infinity if it differs.
        largest: Largest absolute difference; NaN if only a digest differs.
        note: What was compared with what, for the user.
    """

    name: str
    snr: float
    largest: float
    note: str


def explain(
    run: Run | str | os.PathLike[str] | None = None, *, data: str | os.PathLike[str] | None = None
) -> list[Stage]:
    """Compare each stage of an exported run with training, on test pictures.

    Args:
        run: A run that was exported, or its folder; None for the newest under ``runs/``.
        data: New place of the run's data set, if it has moved.

    Returns:
        The stages, those with the lowest signal-to-noise ratio first.

    Raises:
        RunError: there is no such run, or its training is not finished.
        ExportError: the run was not exported, its model file is damaged, or its data set is missing or another one.
        DeviceError: ONNX Runtime is not installed.
    """
    load_runtime()
    run = open_run(run)
    model = _load(exported_folder(run.path) / FP32_MODEL)
    int8 = [_load(run.path / name) for name in (INT8_MODEL, REJECTED_MODEL) if (run.path / name).exists()]
    source = open_run_source(run, data)
    test, same = decode_test_split(run, source)
    sample = _sample(test)
    stages = [*_pixels(run, source, test, same), _normalisation(run.spec, model), _graph(run, sample, model)]
    for quantized in int8:
        stages += _layers(model, quantized, sample)
    return sorted(stages, key=lambda stage: stage.snr)


def _load(path: Path) -> ModelProto:
    """Load a model file without its optional outputs, whose tensors depend on statistics of the file itself."""
    try:
        data = open_model(path, device="cpu").data  # onnx.load would accept a truncated file
    except ModelError as error:
        raise ExportError(f"{error}: export again") from error
    return onnx.load_from_string(select_outputs(data, ())[0])


def _sample(test: Split) -> NDArray[np.uint8]:
    """A few pictures of all classes. The pictures of a folder are sorted by class, so the first ones are of one."""
    return test.images[classes_in_turn(test.labels, np.arange(len(test.labels)))[:PICTURES]]


def snr(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Return the signal-to-noise ratio in decibels, 10 * log10(power of ``wanted`` / power of the difference).

    Args:
        wanted: Values in training, of any shape.
        found: Values of the export, of the same shape.
    """
    signal, noise = (float(np.square(values.astype(np.float64)).sum()) for values in (wanted, wanted - found))
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _stage(name: str, wanted: NDArray[Any], found: NDArray[Any], note: str) -> Stage:
    return Stage(name, snr(wanted, found), float(np.abs(wanted - found).max()), note)


def _pixels(run: Run, source: Source, test: Split, same: bool) -> Iterator[Stage]:
    """Compare digests of the pixels, which is all that a run records of them."""
    recorded = recorded_data(run).get("test_decoded")
    pictures = source.splits["test"].pictures
    decoded = same or decode_digest(pictures, run.spec, PICTURES) == recorded
    count = min(PICTURES, len(pictures))
    what = f"pixels of {count} test picture{'' if count == 1 else 's'} before resizing: in training, now"
    yield Stage("decode", math.inf if decoded else -math.inf, 0.0 if decoded else math.nan, what)
    what = f"pixels of all {len(test.images):,} test pictures after resizing: in training, now"
    yield Stage("resize", math.inf if same else -math.inf, 0.0 if same else math.nan, what)


def _normalisation(spec: Spec, fp32: ModelProto) -> Stage:
    """Compare the normalisation of all 256 pixel values in training with that of the file's first node."""
    picture = np.resize(np.arange(256, dtype=np.uint8), (256, *spec.shape))
    wanted = to_input(picture, spec, torch.device("cpu")).numpy()
    found = Tensors(_first_node(fp32)).run({INPUT: picture.transpose(0, 3, 1, 2)})
    return _stage("normalise", wanted, next(iter(found.values())), f"all 256 pixel values: PyTorch, {FP32_MODEL}")


def _first_node(fp32: ModelProto) -> ModelProto:
    """A model of only the node that normalises the pixels."""
    node = next(node for node in fp32.graph.node if node.op_type == "DequantizeLinear")
    pixels = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [None] * 4)
    values = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None] * 4)
    constants = [tensor for tensor in fp32.graph.initializer if tensor.name in node.input]
    alone = helper.make_node("DequantizeLinear", [INPUT, *node.input[1:]], node.output)
    graph = helper.make_graph([alone], "normalise", [pixels], [values], constants)
    return helper.make_model(graph, opset_imports=fp32.opset_import, ir_version=fp32.ir_version)


def _graph(run: Run, pictures: NDArray[np.uint8], fp32: ModelProto) -> Stage:
    wanted = logits_of(run.network(), pictures, run.spec, torch.device("cpu")) / np.float32(run.spec.temperature)
    found = Tensors(fp32).run({INPUT: np.ascontiguousarray(pictures)})[LOGITS]
    return _stage("graph", wanted, found, f"logits of {len(pictures)} test pictures: PyTorch, {FP32_MODEL}")


def _layers(fp32: ModelProto, int8: ModelProto, pictures: NDArray[np.uint8]) -> Iterator[Stage]:
    wanted, found = (Tensors(model).run({INPUT: np.ascontiguousarray(pictures)}) for model in (fp32, int8))
    makers = makers_of(fp32)
    for name, values in wanted.items():
        rounded = _rounded(name, found)
        if rounded is not None and makers[name].op_type != "Softmax":
            yield _stage(f"int8 {name}", values, rounded, f"output of {makers[name].op_type}: {FP32_MODEL}, int8")


def _rounded(name: str, found: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """A tensor of the int8 model after rounding; None if the int8 model does not have it."""
    return found.get(name + DEQUANTIZED, found.get(name))
