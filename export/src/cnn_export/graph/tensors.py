"""Everything that a graph computes on its way from input to output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cnn_infer.system import machine
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto


class Tensors:
    """Gives every float32 tensor that the nodes of a graph make.

    Args:
        model: A graph with one input; it stays as it is.
    """

    def __init__(self, model: ModelProto) -> None:
        known = onnx.shape_inference.infer_shapes(model)
        graph = known.graph
        outputs = {output.name: output for output in graph.output}
        infos = {info.name: info for info in graph.value_info} | outputs
        made = [name for node in graph.node if node.op_type != "Constant" for name in node.output]
        self.names = [
            name for name in made if name in infos and infos[name].type.tensor_type.elem_type == TensorProto.FLOAT
        ]
        graph.output.extend(infos[name] for name in self.names if name not in outputs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = machine.usable_cpus()  # its own default does not know of a container's quota
        self._session = onnxruntime.InferenceSession(
            known.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """By name, for one batch of the input."""
        return dict(zip(self.names, self._session.run(self.names, dict(inputs)), strict=True))
