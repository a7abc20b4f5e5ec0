"""The model repository of an exported run, for NVIDIA Triton Inference Server and KServe.

The layout is that of https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md,
and ``config.pbtxt`` is the message ``ModelConfig`` of
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto in its text format.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from cnn_infer import Spec, open_model
from cnn_infer.errors import InputError, ModelError
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES, shipped_model
from cnn_infer.optional_outputs import select_outputs
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import EXPORT_REPORT, HALF_MODEL
from cnn_infer.system.atomic import write_bytes, write_text

from cnn_export.errors import ExportError
from cnn_export.exported_run import exported_folder
from cnn_export.new_folder import check_new_folder, new_folder

MODEL, CONFIG, LABELS = "model.onnx", "config.pbtxt", "labels.txt"
VERSION = "1"
"""Name of the folder of the model file: Triton takes the highest number."""

MAX_BATCH = 64
"""Largest number of pictures in one run of the model."""

MAX_BATCH_PIXELS = 1 << 22
"""Largest number of pixels (height x width) in one run, unless one picture has more: activations take memory."""

QUEUE_DELAY_US = 1000
"""How long Triton lets a request wait for others, in microseconds, while the batch has no preferred size."""

# The field "name" is left out: Triton takes the name of the folder, which can then be renamed.
_CONFIG = """\
backend: "onnxruntime"
max_batch_size: {largest}
version_policy {{ latest {{ num_versions: 1 }} }}
input [
  {{ name: "{input}" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ {height}, {width}, {channels} ] }}
]
output [
  {{ name: "{logits}" data_type: TYPE_FP32 dims: [ {classes} ] }},
  {{ name: "{probabilities}" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "{labels}" }}
]
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: {delay} }}
instance_group [ {{ count: 1 kind: {kind} }} ]
"""

_ONE_THREAD = """\
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }}
"""
"""Triton would start a thread for each processor of the host, also in a container that may use few of them."""

_KINDS = {"int8": "KIND_CPU", "fp16": "KIND_GPU"}
"""Where an instance of a precision runs; fp32 on a GPU if there is one."""


@dataclass(frozen=True)
class Repository:
    """What was written.

    Attributes:
        folder: The model repository.
        name: Name of the model, which is the name of its folder.
        model: Name of the file of the run that it serves.
        bytes: Size of the model file.
    """

    folder: Path
    name: str
    model: str
    bytes: int


def write_repository(
    out: str | os.PathLike[str], run: str | os.PathLike[str] | None = None, *, half: bool = False
) -> Repository:
    """Write a model repository with the model of an exported run into a new folder.

    The model is the one that ``cnn-infer`` takes: int8 if it ships, which runs on the CPU, with one thread for each
    instance; else fp32, which runs on a GPU if there is one. It is written without its optional outputs, because
    Triton would compute them in each run.

    Args:
        out: The folder; it must be empty or not exist.
        run: A folder with the files of an export; None for the newest run under ``runs/``.
        half: Take ``model.half.onnx`` instead, which runs on a GPU.

    Raises:
        ExportError: nothing was exported in ``run``, its report or the model is missing or damaged, a class cannot be
            written as a line of the label file, or ``out`` is not empty.
        DeviceError: ONNX Runtime is not installed.
        OSError: the disk is full, or writing is not permitted.
    """
    check_new_folder(out)
    place = exported_folder(run)
    if not (place / EXPORT_REPORT).exists():
        raise ExportError(f"{printable(place)} has no {EXPORT_REPORT}, which names the model to serve: export it first")
    try:
        source = place / HALF_MODEL if half else shipped_model(place)
    except InputError as error:
        raise ExportError(str(error)) from error
    try:
        model = open_model(source, device="cpu")
    except ModelError as error:
        raise ExportError(f"{error}: export again") from error
    for name in model.spec.classes:
        if "\n" in name:
            raise ExportError(f"the class {name!r} has a line break, and {LABELS} one class on each line: rename it")
    data, _ = select_outputs(model.data, ())
    named = _name(model.spec, place)
    with new_folder(out) as folder:
        (folder / named / VERSION).mkdir(parents=True)
        write_bytes(folder / named / VERSION / MODEL, data)
        write_text(folder / named / LABELS, "".join(f"{name}\n" for name in model.spec.classes))
        write_text(folder / named / CONFIG, _config(model.spec))
    return Repository(Path(out), named, source.name, len(data))


def repository_line(found: Repository) -> str:
    """Where the model repository is, and how to serve it."""
    return (
        f"triton         {printable(found.folder)}: model {found.name}, {found.model}, {found.bytes / 1024:,.0f} KiB\n"
        f"next step      tritonserver --model-repository={printable(found.folder)}"
    )


def _config(spec: Spec) -> str:
    precision = str(spec.details.get("precision"))
    largest = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (spec.height * spec.width)))
    preferred = sorted({max(1, largest // part) for part in (4, 2, 1)})
    return (_CONFIG + (_ONE_THREAD if precision == "int8" else "")).format(
        largest=largest,
        input=INPUT,
        height=spec.height,
        width=spec.width,
        channels=spec.channels,
        logits=LOGITS,
        probabilities=PROBABILITIES,
        classes=len(spec.classes),
        labels=LABELS,
        preferred=", ".join(map(str, preferred)),
        delay=QUEUE_DELAY_US,
        kind=_KINDS.get(precision, "KIND_AUTO"),
    )


def _name(spec: Spec, place: Path) -> str:
    """Return the name of the data set, else of the run folder, in letters that are safe in paths and addresses."""
    data = spec.details.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    plain = unicodedata.normalize("NFKD", str(name or place.name)).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-") or "model"
