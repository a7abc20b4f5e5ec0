"""Static int8: unsigned activations, signed weights per channel, as QuantizeLinear/DequantizeLinear pairs.

U8S8 is the combination that x86 processors multiply natively (VNNI) and that ONNX Runtime has its fast kernels
for; its quantiser's own default, signed activations, is slower there.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from cnn_infer import machine
from cnn_infer.model import LOGITS
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from cnn_export.errors import GraphError
from cnn_export.graph import NORMALISED
from cnn_export.passes import drop_bias_zero_points, leading_moves, strip_unused
from cnn_export.selection import classes_in_turn

CALIBRATION_PICTURES = 1024
CALIBRATION_BATCH = 32


class _Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type hints
    def __init__(self, pictures: NDArray[np.uint8], spec: Spec) -> None:
        self._batches = self._read(pictures, spec)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None after the last."""
        return next(self._batches, None)

    @staticmethod
    def _read(pictures: NDArray[np.uint8], spec: Spec) -> Iterator[dict[str, NDArray[np.float32]]]:
        for start in range(0, len(pictures), CALIBRATION_BATCH):
            planes = pictures[start : start + CALIBRATION_BATCH].transpose(0, 3, 1, 2).astype(np.float32)
            yield {NORMALISED: (planes - np.float32(spec.zero_point)) * np.float32(spec.scale)}


def quantize(model: ModelProto, pictures: NDArray[np.uint8], spec: Spec) -> ModelProto:
    """The int8 form of a float graph (see :func:`cnn_export.graph.float_graph`), with the same input and output.

    Args:
        model: Float graph.
        pictures: Training pictures to take the ranges of activations from, uint8 (n, h, w, c).
        spec: Normalisation.

    Raises:
        GraphError: ONNX Runtime cannot quantise the graph.
    """
    # without dot products of bytes, two neighbouring products of 8 bits overflow 16: leave one bit of room
    reduce_range = machine.instruction_set() in ("avx2", "generic")
    moves, stem = leading_moves(model, NORMALISED)
    pixels = {"scale": np.array(spec.scale, np.float32), "zero_point": np.array(spec.zero_point, np.uint8)}
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantiser warns of steps that are taken here on purpose
    try:
        with tempfile.TemporaryDirectory(prefix="cnn-export-") as folder:
            quantized = Path(folder, "quantized.onnx")
            quantize_static(
                onnx.shape_inference.infer_shapes(model),
                quantized,
                _Pictures(pictures, spec),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=reduce_range,
                calibrate_method=CalibrationMethod.MinMax,
                # where no fully connected layer makes the logits, temperature is a node of its own: logits stay float
                nodes_to_exclude=[*(node.name for node in moves), f"{LOGITS}_scale"],
                extra_options={
                    # logits come straight from the 32-bit sums
                    "OpTypesToExcludeOutputQuantization": ["Gemm"],
                    # the bytes as they are: the first convolution's input scale is the normalisation
                    "TensorQuantOverrides": {stem: [pixels]},
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
