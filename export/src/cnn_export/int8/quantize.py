"""Static int8, as QuantizeLinear/DequantizeLinear pairs, in one of the ways that :class:`Recipe` describes.

Unsigned activations and signed weights (U8S8) is the combination that x86 processors multiply natively (VNNI) and that
ONNX Runtime has its fast kernels for; its quantiser's own default, signed activations, is slower there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cnn_infer.model import LOGITS
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from cnn_export.errors import GraphError
from cnn_export.graph.float_graph import NORMALISED
from cnn_export.graph.passes import drop_bias_zero_points, leading_moves, strip_unused
from cnn_export.int8.ranges import METHODS, Batches, Statistics
from cnn_export.int8.targets import Target
from cnn_export.selection import classes_in_turn

CALIBRATION_PICTURES = 1024
CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Recipe:
    """One way to int8.

    Attributes:
        ranges: Out of :data:`cnn_export.int8.ranges.METHODS`.
        per_channel: A scale for every filter, not one for all of a layer.
        correct_biases: Whether biases make up for what rounding the weights shifts on average.
        floats: Nodes that stay float, by name.
        fine_tuned: Whether weights and biases learned under the rounding afterwards.
    """

    ranges: str
    per_channel: bool = True
    correct_biases: bool = False
    floats: tuple[str, ...] = ()
    fine_tuned: bool = False

    def __str__(self) -> str:
        parts = [self.ranges, "per channel" if self.per_channel else "per tensor"]
        parts += ["biases corrected"] if self.correct_biases else []
        parts += ["fine-tuned"] if self.fine_tuned else []
        parts += [f"{len(self.floats)} in float"] if self.floats else []
        return ", ".join(parts)


def normalised(pictures: NDArray[np.uint8], spec: Spec) -> Batches:
    """Pictures, uint8 (n, h, w, c), as batches of the float graph's input."""

    def batches() -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(pictures), CALIBRATION_BATCH):
            planes = pictures[start : start + CALIBRATION_BATCH].transpose(0, 3, 1, 2).astype(np.float32)
            yield {NORMALISED: (planes - np.float32(spec.zero_point)) * np.float32(spec.scale)}

    return batches


class _First(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type hints
    """A single batch: the quantiser insists on calibrating, but every range is given to it."""

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
    """The int8 form of a float graph, with the same input and output.

    Args:
        model: Float graph.
        statistics: Of its tensors, on training pictures.
        batches: The pictures.
        spec: Normalisation.
        recipe: How.
        target: For which processors.

    Raises:
        GraphError: ONNX Runtime cannot quantise the graph.
    """
    moves, stem = leading_moves(model, NORMALISED)
    choose = METHODS[recipe.ranges]
    ends = {name: choose(found) for name, found in statistics.items() if found.high > found.low}
    ranges: dict[str, list[dict[str, Any]]] = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ends.items()
    }
    # the bytes as they are: the first convolution's input scale is the normalisation
    zero_point = np.array(spec.zero_point - (128 if target.signed else 0), np.int8 if target.signed else np.uint8)
    ranges[stem] = [{"scale": np.array(spec.scale, np.float32), "zero_point": zero_point}]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser warns of steps that are taken here on purpose
    try:
        with tempfile.TemporaryDirectory(prefix="cnn-export-") as folder:
            quantized = Path(folder, "quantized.onnx")
            quantize_static(
                onnx.shape_inference.infer_shapes(model),
                quantized,
                _First(batches),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QInt8 if target.signed else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=recipe.per_channel,
                reduce_range=target.reduce_range,
                calibrate_method=CalibrationMethod.MinMax,
                # where no fully connected layer makes the logits, temperature is a node of its own: logits stay float
                nodes_to_exclude=[*(node.name for node in moves), f"{LOGITS}_scale", *recipe.floats],
                extra_options={
                    # logits come straight from the 32-bit sums
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                    "TensorQuantOverrides": ranges,
                },
            )
            result = onnx.load(quantized)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise GraphError(f"ONNX Runtime cannot quantise this network: {reason}") from error
    finally:
        root.setLevel(level)
    drop_bias_zero_points(result)
    strip_unused(result)
    return result


def calibration_set(labels: NDArray[np.int64], seed: int, most: int = CALIBRATION_PICTURES) -> NDArray[np.int64]:
    """Indices of at most ``most`` training pictures to calibrate on: the classes in turn, in seeded order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(classes_in_turn(labels, order)[:most])
