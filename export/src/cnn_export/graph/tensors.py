"""The intermediate tensors of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from cnn_export.graph.session import session_on_cpu


class Tensors:
    """Computes every float32 tensor of a graph, in ONNX Runtime on the CPU.

    Attributes:
        names: Names of the tensors.

    Args:
        model: A graph with one input; it is not changed.

    Raises:
        DeviceError: ONNX Runtime is not installed.
    """

    def __init__(self, model: ModelProto) -> None:
        known = onnx.shape_inference.infer_shapes(model)
        graph = known.graph
        outputs = {output.name: output for output in graph.output}
        infos = {info.name: info for info in graph.value_info} | outputs
        computed = [name for node in graph.node if node.op_type != "Constant" for name in node.output]
        self.names = [
            name for name in computed if name in infos and infos[name].type.tensor_type.elem_type == TensorProto.FLOAT
        ]
        graph.output.extend(infos[name] for name in self.names if name not in outputs)
        self._session = session_on_cpu(known)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the tensors by name, for one batch of the input."""
        return dict(zip(self.names, self._session.run(self.names, dict(inputs)), strict=True))
