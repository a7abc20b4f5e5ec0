"""Whether a model file fits this machine: its opset, its int8 target against the instruction set, the device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnn_infer.console import quantity
from cnn_infer.details import under
from cnn_infer.doctor.findings import NOTHING, Finding
from cnn_infer.doctor.host import EXACT
from cnn_infer.doctor.packages import newer
from cnn_infer.errors import InferError, ModelError
from cnn_infer.model import SPEC_KEY, read_model
from cnn_infer.protobuf import fields, read_varint
from cnn_infer.providers.probe import MODEL, ask
from cnn_infer.spec import Spec
from cnn_infer.system import machine

OPSETS, METADATA = 8, 14
"""Numbers of the fields ``opset_import`` and ``metadata_props`` of an ONNX model."""

DOMAIN, VERSION = 1, 2
"""Numbers of the fields of an entry of ``opset_import``."""


def findings(model: str, device: str, options: Mapping[str, str], *, broken: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield what is found of a model file. ONNX Runtime is asked in a process of its own.

    Args:
        model: The file, or its URL.
        device: The device for the model, as for :class:`cnn_infer.Classifier`.
        options: Its options.
        broken: Names of earlier findings because of which ONNX Runtime cannot open a model: it is not asked then.
    """
    try:
        name, opset, spec = _specification(model)
    except InferError as error:
        yield Finding("model", "error", str(error), "name a file that cnn-export wrote, or export it again")
        return
    precision = spec.precision
    sides = f"{spec.width} x {spec.height}"
    yield Finding("model", "ok", f"{name}, {precision}, {sides} pixels, {len(spec.classes)} classes, opset {opset}")
    if precision == "int8":
        yield _int8(under(spec.details, "parity", "fp32_against_int8"))
    if broken:
        yield Finding("device", "note", "the model was not opened", f"first fix {' and '.join(broken)}")
        return
    answer = ask(MODEL, model, device, json.dumps(dict(options)))
    if not answer.value:
        reason = answer.error.partition("Error: ")[2] or answer.error
        old = "opset" in reason.lower() or "ir version" in reason.lower()
        other = "export it again" if device in ("auto", "cpu") else "do what the reason names, or pass --device cpu"
        advice = newer() if old else other
        yield Finding("device", "error", f"{device} does not open the model: {reason}", advice)
        return
    nodes = ", ".join(f"{provider}: {quantity(count, 'node')}" for provider, count in answer.value["nodes"].items())
    found = f"{answer.value['provider']} ({answer.value['chosen']}){f'; {nodes}' if nodes else ''}"
    yield Finding("device", "ok", found, "cnn-infer --verify proves that it computes what was exported")


def _specification(model: str) -> tuple[str, int, Spec]:
    """Return the name of a model, its version of the standard operators, and its specification."""
    name, data = read_model(model)
    opset, metadata = _contents(name, data)
    if SPEC_KEY not in metadata:
        raise ModelError(f"an ONNX model, but not one that cnn-export wrote (no {SPEC_KEY} in its metadata): {name}")
    return name, opset, Spec.from_json(metadata[SPEC_KEY])


def _contents(name: str, data: bytes) -> tuple[int, dict[str, str]]:
    """Return the version of the standard operators, and the metadata."""
    opset, metadata = 0, {}
    try:
        for number, _, _, content in fields(memoryview(data)):
            if number == OPSETS:
                parts = {part: value for part, _, _, value in fields(content)}
                if not bytes(parts.get(DOMAIN, b"")):
                    opset = read_varint(parts[VERSION], 0)[0]
            elif number == METADATA:
                entry = {part: bytes(value).decode() for part, _, _, value in fields(content)}
                metadata[entry.get(1, "")] = entry.get(2, "")
    except (IndexError, KeyError, ValueError) as error:
        raise ModelError(f"not an ONNX model, or damaged: {name}; cnn-export writes models") from error
    return opset, metadata


def _int8(proof: Mapping[str, Any]) -> Finding:
    """Return what follows from the proof of an int8 file, an object of its specification."""
    target, here = str(proof.get("target") or "unknown"), machine.instruction_set()
    known = machine.names_instructions()
    found = f"made for {target}; " + (f"this processor has {here}" if known else machine.UNNAMED)
    if under(proof, "integers").get("proven") is True:
        return Finding("int8", "ok", f"{found}; the same integers on every processor (--device cpu)", NOTHING)
    if here in EXACT:
        advice = "cnn-infer --verify checks it; cnn-export --for any gives the same integers on every processor"
        return Finding("int8", "ok" if target == "vnni" else "note", f"{found}, whose sums cannot overflow", advice)
    if target in ("any", "avx2", "generic") or not known:
        return Finding("int8", "note", found, "cnn-infer --verify checks that its integers are those of the export")
    advice = "export again with cnn-export --quantize --for any, or use model.onnx (fp32)"
    return Finding("int8", "error", f"{found}, whose sums of products may overflow", advice)
