"""Open an exported model: read the file, open it on a device, and check the model's contract."""

from __future__ import annotations

import builtins
import json
import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_infer.errors import InputError, ModelError
from cnn_infer.optional_outputs import OPTIONAL_OUTPUTS, select_outputs, shape_of
from cnn_infer.paths.find import folders_holding
from cnn_infer.paths.naming import printable
from cnn_infer.providers.devices import BY_NAME
from cnn_infer.providers.session import bound_runner, open_session
from cnn_infer.run_files import EXPORT_REPORT, RUNS
from cnn_infer.runtime import load_runtime
from cnn_infer.spec import Spec
from cnn_infer.storage.urls import is_url, resolved

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

    from cnn_infer.providers.binding import BoundRunner

SPEC_KEY = "cnn.spec"
"""Metadata key of the model's specification, :class:`~cnn_infer.Spec`, as JSON."""

GOLDEN_KEY = "cnn.golden"
"""Metadata key of the golden pictures and their expected probabilities."""

CONFORMANCE_KEY = "cnn.conformance"
"""Metadata key of the conformance files and their expected pixels and probabilities."""

INPUT = "image"
"""Name of the input: uint8, (batch, height, width, channels)."""

LOGITS = "logits"
"""Name of the first output: float32, (batch, classes), divided by the temperature."""

PROBABILITIES = "probabilities"
"""Name of the second output: float32, (batch, classes), the softmax of the logits."""

MAX_MODEL_BYTES = 2 << 30
"""Larger files are refused before they are read. ONNX's single-file format has the same limit."""


@dataclass(frozen=True)
class Model:
    """An open model; :class:`~cnn_infer.Classifier` classifies pictures with it.

    It can be pickled and copied deeply: the copy opens a session of its own from :attr:`data`, on the same device and
    with the same number of threads, or raises DeviceError.

    Attributes:
        name: The path or URL as it was given, without credentials; ``model`` if it was opened from bytes.
        spec: The model's specification.
        session: The ONNX Runtime session. It computes ``logits``, ``probabilities`` and :attr:`outputs`.
        provider: The name of the execution provider that runs the model.
        chosen: Why this provider was chosen, and how many nodes run on the CPU instead, as text.
        metadata: The file's metadata.
        bytes: The file's size in bytes.
        data: The bytes of the file. The session uses the same object, so they take no extra memory; but a copy if
            there are optional outputs that it does not compute.
        outputs: The optional outputs that the session computes.
        available: The optional outputs that the file has, from :data:`cnn_infer.optional_outputs.OPTIONAL_OUTPUTS`.
        device: The name of the device.
        device_options: The options of the device that were given.
        nodes: How many nodes of the model each execution provider runs; empty on the CPU, where there is one.
        bound: Runs the model with its tensors on the device; None if they are passed in the memory of the CPU.
    """

    name: str
    spec: Spec
    session: onnxruntime.InferenceSession
    provider: str
    chosen: str
    metadata: Mapping[str, str]
    bytes: int
    data: builtins.bytes = field(repr=False)
    outputs: tuple[str, ...] = ()
    available: tuple[str, ...] = ()
    device: str = "cpu"
    device_options: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, int] = field(default_factory=dict)
    bound: BoundRunner | None = field(default=None, repr=False)
    _planned: set[int] = field(default_factory=set, init=False, repr=False, compare=False)
    _planning: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of :attr:`data`, hexadecimal. Computed on first use, because loading OpenSSL takes milliseconds."""
        import hashlib

        return hashlib.sha256(self.data).hexdigest()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        return _reopened, (*self._opening, self.outputs)

    def run(self, outputs: Sequence[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Return the named outputs for a batch, uint8, (n, height, width, channels). Errors are ONNX Runtime's.

        In the first run of a batch size ONNX Runtime allocates each tensor alone, and it plans one block for all later
        runs. Threads wait for the end of that run: several first runs at a time would fragment the memory for good.
        """
        if self.bound is not None:
            return self.bound.run(outputs, batch)
        if len(batch) not in self._planned:
            with self._planning:
                if len(batch) not in self._planned:
                    first = self._run(outputs, batch)
                    self._planned.add(len(batch))
                    return first
        return self._run(outputs, batch)

    def _run(self, outputs: Sequence[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        found: list[NDArray[np.float32]] = self.session.run(outputs, {INPUT: batch})
        return found

    def with_outputs(self, outputs: Collection[str]) -> Model:
        """Open the model again, on the same device, to compute other optional outputs.

        Raises:
            InputError: the file does not have one of them.
        """
        return _reopened(*self._opening, outputs)

    @property
    def _opening(self) -> tuple[str, builtins.bytes, str, str, int, Mapping[str, str]]:
        threads = self.session.get_session_options().intra_op_num_threads
        return self.name, self.data, self.device, self.chosen, threads, self.device_options


def open_model(
    source: str | os.PathLike[str] | bytes,
    *,
    device: str = "auto",
    threads: int = 1,
    outputs: Collection[str] = (),
    device_options: Mapping[str, str] | None = None,
) -> Model:
    """Open a model and check that it keeps the contract: its input, its outputs and its specification.

    Args:
        source: The path, the URL or the bytes of an ``.onnx`` file that cnn-export wrote.
        device: One of :data:`cnn_infer.providers.devices.DEVICES`. ``auto`` is CUDA if it works, else the CPU.
        threads: CPU threads for each run of the model, at least 1.
        outputs: Optional outputs to compute in each run, from :attr:`Model.available`. Without them a run takes as
            long as it takes for a file that does not have them.
        device_options: Options of the device: those of its execution provider, as ONNX Runtime documents them, and
            ``io_binding``: ``on`` or ``off``.

    Raises:
        ModelError: the file is missing, larger than 2 GiB, damaged, or was not written by cnn-export.
        InputError: ``device`` is not a known name, an option of it has no effect, or the file does not have one of
            ``outputs``.
        DeviceError: ONNX Runtime is not installed, or the device is not available or runs no part of the model. There
            is no silent fallback.
    """
    ort = load_runtime()
    name, data = read_model(source)
    selected, available = select_outputs(data, outputs)
    opened = open_session(ort, name, selected, device, threads, device_options or {})
    session = opened.session
    try:
        properties = session.get_modelmeta().custom_metadata_map
        if SPEC_KEY not in properties:
            raise ModelError(
                f"an ONNX model, but not one that cnn-export wrote (no {SPEC_KEY} in its metadata): {name}"
            )
        spec = Spec.from_json(properties[SPEC_KEY])
        for output in outputs:
            if output not in OPTIONAL_OUTPUTS:
                raise InputError(f"unknown output {output!r}: one of {', '.join(OPTIONAL_OUTPUTS)}")
            if output not in available:
                option = OPTIONAL_OUTPUTS[output]
                raise InputError(f"the model has no output {output}: cnn-export {option} adds it: {name}")
        computed = tuple(output for output in available if output in outputs)
        _check_contract(session, spec, computed, name)
    except UnicodeDecodeError as error:
        raise ModelError(f"not an ONNX model, or damaged: {name} (a text in it is not UTF-8)") from error
    return Model(
        name,
        spec,
        session,
        BY_NAME[opened.device].provider,
        opened.chosen,
        properties,
        len(data),
        data,
        computed,
        available,
        opened.device,
        opened.options,
        opened.nodes,
        bound_runner(ort, opened),
    )


def _reopened(
    name: str,
    data: bytes,
    device: str,
    chosen: str,
    threads: int,
    device_options: Mapping[str, str],
    outputs: Collection[str] = (),
) -> Model:
    """Open a pickled or copied model."""
    opened = open_model(data, device=device, threads=threads, outputs=outputs, device_options=device_options)
    return replace(opened, name=name, chosen=chosen)


def newest_export(runs: str | os.PathLike[str] = RUNS) -> Path:
    """Return the model to run of the newest export below ``runs``: the int8 file if export accepted it, else fp32.

    Raises:
        InputError: there is no finished export, or its report is damaged.
    """
    exports = folders_holding(EXPORT_REPORT, runs)
    if not exports:
        raise InputError(
            f"no exported model under {runs}/: run cnn-train and cnn-export first, or pass --model FILE.onnx"
        )
    return shipped_model(exports[-1])


def shipped_model(folder: Path) -> Path:
    """Return the model that the export in a folder chose: the int8 file if it is accurate enough and faster, else fp32.

    Raises:
        InputError: the report of the export is damaged.
    """
    report = folder / EXPORT_REPORT
    try:
        return folder / str(json.loads(report.read_text(encoding="utf-8"))["ship"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{report} is damaged ({error}): run cnn-export again") from error


def read_model(source: str | os.PathLike[str] | bytes) -> tuple[str, bytes]:
    """Return the name of a model, for messages, and its bytes.

    Raises:
        ModelError: it cannot be read, or is larger than 2 GiB.
    """
    # ONNX Runtime gets bytes, never a path: from a path it would also load weight files next to the model
    if isinstance(source, bytes):
        return "model", source
    name = printable(source)
    if isinstance(source, str) and is_url(source := resolved(source)):
        return name, _downloaded(source)
    path = Path(source)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelError(f"the model is not a file: {name}")
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(f"the model is larger than {MAX_MODEL_BYTES >> 30} GiB: {name}")
        return name, path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise ModelError(f"cannot read the model: {name} ({getattr(error, 'strerror', None) or error})") from error


def _downloaded(url: str) -> bytes:
    from cnn_infer.storage.failures import StorageError  # imported late: few models are at a URL
    from cnn_infer.storage.objects import read

    try:
        return read(url, MAX_MODEL_BYTES)
    except StorageError as error:
        raise ModelError(f"cannot read the model: {error}") from error


def _check_contract(session: onnxruntime.InferenceSession, spec: Spec, optional: Collection[str], name: str) -> None:
    """Check names, types and shapes of the input and the outputs.

    Raises:
        ModelError: they differ from the specification, or the batch size is fixed.
    """
    inputs = [(node.name, node.type, list(node.shape)[1:]) for node in session.get_inputs()]
    outputs = [(node.name, node.type, list(node.shape)[1:]) for node in session.get_outputs()]
    wanted_in = [(INPUT, "tensor(uint8)", list(spec.shape))]
    classes = len(spec.classes)
    shapes = {LOGITS: [classes], PROBABILITIES: [classes]} | {key: shape_of(key, spec) for key in optional}
    wanted_out = [(key, "tensor(float)", shape) for key, shape in shapes.items()]
    for found, wanted in ((inputs, wanted_in), (outputs, wanted_out)):
        if found != wanted:
            raise ModelError(f"the model does not keep its own contract: it has {found}, not {wanted}: {name}")
    batch = session.get_inputs()[0].shape[0]
    if isinstance(batch, int):
        raise ModelError(f"the model does not keep its own contract: its batch size is fixed at {batch}: {name}")
