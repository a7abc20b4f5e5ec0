"""Static int8 quantization with QuantizeLinear/DequantizeLinear pairs (QDQ), as a :class:`Recipe` describes it.

Unsigned activations with signed weights (U8S8) is the combination that x86 processors multiply in hardware (VNNI) and
that ONNX Runtime has fast kernels for. The default of its quantizer, signed activations, is slower there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cnn_infer.model import LOGITS
from cnn_infer.runtime import load_runtime
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from onnx import ModelProto

from cnn_export.errors import GraphError
from cnn_export.graph.float_graph import NORMALISED
from cnn_export.graph.passes import drop_bias_zero_points, leading_moves, strip_unused
from cnn_export.int8.additions import let_additions_agree
from cnn_export.int8.pairs import limit_pairs
from cnn_export.int8.ranges import METHODS, Batches, Statistics
from cnn_export.int8.targets import Target
from cnn_export.options import CALIBRATION_PICTURES
from cnn_export.selection import classes_in_turn

CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """One way to quantize a network.

    Attributes:
        ranges: Name of the method that chooses calibration ranges, from :data:`cnn_export.int8.ranges.METHODS`.
        per_channel: Whether each filter has its own weight scale, instead of one scale for the whole layer.
        correct_biases: Whether biases compensate the mean error of the rounded weights.
        floats: Names of the nodes that are kept in fp32.
        fine_tuned: Whether weights and biases are fine-tuned after the quantization.
    """

    ranges: str
    per_channel: bool = True
    correct_biases: bool = False
    floats: tuple[str, ...] = ()
    fine_tuned: bool = False

    @property
    def structure(self) -> str:
        """How weights are scaled, for the user."""
        return "per channel" if self.per_channel else "per tensor"

    def __str__(self) -> str:
        parts = [self.ranges, self.structure]
        parts += ["biases corrected"] if self.correct_biases else []
        parts += ["fine-tuned"] if self.fine_tuned else []
        parts += [f"{len(self.floats)} in fp32"] if self.floats else []
        return ", ".join(parts)


def normalised(pictures: NDArray[np.uint8], spec: Spec) -> Batches:
    """Return a source of batches of the float graph's input, made of pictures, uint8 (n, h, w, c)."""

    def batches() -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(pictures), CALIBRATION_BATCH):
            planes = pictures[start : start + CALIBRATION_BATCH].transpose(0, 3, 1, 2).astype(np.float32)
            yield {NORMALISED: (planes - np.float32(spec.zero_point)) * np.float32(spec.scale)}

    return batches


class _FirstBatch:
    """Gives one batch to the quantizer, which always calibrates although :func:`quantize` sets every range."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches()
        self._left = 1

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        self._left -= 1
        return next(self._batches) if self._left >= 0 else None


def quantize(
    model: ModelProto,
    statistics: Mapping[str, Statistics],
    batches: Batches,
    spec: Spec,
    recipe: Recipe,
    target: Target,
) -> ModelProto:
    """Return the int8 form of a float graph, with the same input and output.

    Args:
        model: Float graph.
        statistics: Statistics of its tensors on the calibration pictures.
        batches: The calibration pictures.
        spec: Specification of the model; its normalisation becomes the scale of the first convolution's input.
        recipe: How to quantize.
        target: Processors that the int8 model is for.

    Raises:
        GraphError: ONNX Runtime cannot quantize the graph.
        DeviceError: ONNX Runtime is not installed.
    """
    load_runtime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    moves, stem = leading_moves(model, NORMALISED, spec)
    choose = METHODS[recipe.ranges]
    ends = {name: choose(found) for name, found in statistics.items() if found.high > found.low}
    ranges: dict[str, list[dict[str, Any]]] = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ends.items()
    }
    # the first convolution reads the raw pixels: the scale of its input is the normalisation
    ranges[stem] = [{"scale": np.array(spec.scale, np.float32), "zero_point": np.array(spec.zero_point, np.uint8)}]
    try:
        with tempfile.TemporaryDirectory(prefix="cnn-export-") as folder, _silent_quantizer():
            quantized = Path(folder, "quantized.onnx")
            quantize_static(
                onnx.shape_inference.infer_shapes(model),
                quantized,
                _FirstBatch(batches),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=recipe.per_channel,
                reduce_range=target.reduce_range,
                calibrate_method=CalibrationMethod.MinMax,
                # a network without a last fully connected layer divides by the temperature in a node of its own:
                # its logits stay float32
                nodes_to_exclude=[*(node.name for node in moves), f"{LOGITS}_scale", *recipe.floats],
                extra_options={
                    # logits are computed from the 32-bit sums, without rounding them to int8
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                    "TensorQuantOverrides": ranges,
                },
            )
            result = onnx.load(quantized)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise GraphError(f"ONNX Runtime cannot quantize this network: {reason}") from error
    drop_bias_zero_points(result)
    if target.limit_pairs:
        let_additions_agree(result, model)
        limit_pairs(result, model, stem if moves else "")
    strip_unused(result)
    return result


@contextmanager
def _silent_quantizer() -> Iterator[None]:
    """Hide the quantizer's warnings about steps that are skipped on purpose; messages of other code are not affected.

    The quantizer logs on the root logger, through ``logging.warning``. That function installs a handler if the root
    logger has none, and this handler would then print the messages of all loggers a second time.
    """
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addFilter(_is_not_the_quantizers)
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
        root.removeFilter(_is_not_the_quantizers)


def _is_not_the_quantizers(record: logging.LogRecord) -> bool:
    """Whether a message is an error or comes from outside of ONNX Runtime's quantizer."""
    return record.levelno >= logging.ERROR or Path(record.pathname).parts[-3:-1] != ("onnxruntime", "quantization")


def calibration_set(labels: NDArray[np.int64], seed: int, most: int = CALIBRATION_PICTURES) -> NDArray[np.int64]:
    """Choose the training pictures for the calibration, from all classes in turn.

    Args:
        labels: Classes of the training pictures, int64 (n,).
        seed: Random seed of the order within a class.
        most: Largest number of pictures.

    Returns:
        Sorted indices, int64 (at most ``most``,).
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(classes_in_turn(labels, order)[:most])
