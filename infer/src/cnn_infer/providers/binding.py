"""Run a model with its tensors on the device: memory there is allocated once and used for each batch of the same size.

ONNX Runtime's IOBinding (https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html). Without it each run
allocates the input and the outputs on the device anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

SIZES = 4
"""Batch sizes that stay bound in each thread: the full one, and those of batches with pictures that cannot be read."""


class BoundRunner:
    """Runs a session on bound memory. Several threads can share it: each binds memory of its own.

    Args:
        ort: The module ``onnxruntime``.
        session: The session. Its only input is uint8, (batch, ...), its outputs are float32, (batch, ...).
        memory: Where the tensors are, as ``OrtValue`` names it: ``cuda`` or ``cpu``.
        device_id: The number of the device.
    """

    def __init__(self, ort: ModuleType, session: onnxruntime.InferenceSession, memory: str, device_id: int) -> None:
        self._ort = ort
        self._session = session
        self._place = (memory, device_id)
        self._shapes = {node.name: list(node.shape)[1:] for node in session.get_outputs()}
        self._input: str = session.get_inputs()[0].name
        self._local = threading.local()
        ort.OrtValue.ortvalue_from_shape_and_type([1], np.uint8, *self._place)  # fails here rather than in a run

    def run(self, outputs: Sequence[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the named outputs for a batch, as ``InferenceSession.run`` does, in memory of their own."""
        binding, source, found = self._bound(tuple(outputs), batch)
        source.update_inplace(np.ascontiguousarray(batch))
        # Binding copies the values at once if the provider wants them in other memory, as OpenVINO's plugin does: what
        # is bound before the pixels are there would be the pixels of the batch before.
        binding.bind_ortvalue_input(self._input, source)
        binding.synchronize_inputs()
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [np.array(value.numpy()) for value in found]

    def _bound(self, outputs: tuple[str, ...], batch: NDArray[np.uint8]) -> tuple[Any, Any, list[Any]]:
        """Return a binding, its input and its outputs on the device, for this thread and batch size."""
        if not hasattr(self._local, "bindings"):
            self._local.bindings = OrderedDict()
        bindings: OrderedDict[tuple[Any, ...], tuple[Any, Any, list[Any]]] = self._local.bindings
        key = (outputs, len(batch))
        if key in bindings:
            bindings.move_to_end(key)
            return bindings[key]
        create = self._ort.OrtValue.ortvalue_from_shape_and_type
        source = create(list(batch.shape), np.uint8, *self._place)
        found = [create([len(batch), *self._shapes[name]], np.float32, *self._place) for name in outputs]
        binding = self._session.io_binding()
        for name, value in zip(outputs, found, strict=True):
            binding.bind_ortvalue_output(name, value)
        bindings[key] = (binding, source, found)
        if len(bindings) > SIZES:
            bindings.popitem(last=False)
        return bindings[key]
