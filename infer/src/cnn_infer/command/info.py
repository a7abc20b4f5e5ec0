"""``cnn-infer --info``: a summary of a model for people, and its whole specification as JSON.

The details of a specification are optional: the summary leaves out what is missing or has another type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

from cnn_infer.classifier import Classifier
from cnn_infer.console import escaped, quantity
from cnn_infer.details import under
from cnn_infer.errors import ModelError
from cnn_infer.explanation import sight
from cnn_infer.guarantee import guarantee_of
from cnn_infer.optional_outputs import EVIDENCE
from cnn_infer.strangers import rule_of

NAMED = 5
"""Largest number of nodes that are printed by name."""


def as_json(classifier: Classifier) -> str:
    """Return the whole specification, with the file's name and size in bytes, as one line of JSON."""
    spec = json.loads(classifier.spec.to_json())
    return json.dumps({"file": classifier.model.name, "bytes": classifier.model.bytes, **spec}, ensure_ascii=False)


def for_people(classifier: Classifier) -> str:
    """Return lines on the model's input, classes, training and export."""
    return "\n".join(f"{name:<11} {escaped(text)}" for name, text in facts(classifier))


def facts(classifier: Classifier) -> Iterator[tuple[str, str]]:
    """Yield a word for each fact, empty if it continues the one before, and the fact as text. Names are not escaped."""
    spec = classifier.spec
    details = _Entries(spec.details)
    yield "model", f"{classifier.model.name}, {spec.precision}, {classifier.model.bytes / 1024:,.0f} KiB"
    if nodes := classifier.model.nodes:
        yield "device", ", ".join(f"{name}: {quantity(count, 'node')}" for name, count in nodes.items())
    sides = f"{spec.width} x {spec.height} pixels{'' if spec.width == spec.height else ' (width x height)'}"
    yield "input", f"{sides}, {spec.colour}; {spec.resize}, {spec.filter}"
    yield "classes", f"{len(spec.classes)}: {', '.join(spec.classes[:20])}{', ...' if len(spec.classes) > 20 else ''}"
    data, settings = details.under("data"), details.under("settings")
    if data.text("name"):
        trained = f"{data.text('name')}, {data.under('images').quantity('train', 'picture')}"
        epochs = f", {settings.text('model')}, up to {settings.quantity('epochs', 'epoch')}"
        yield "trained on", trained + (epochs if settings.number("epochs") else "")
    test = details.under("metrics").under("test")
    if test.number("images"):
        figures = f"accuracy {test.number('accuracy'):.2%}, macro F1 {test.number('macro_f1'):.4f}"
        yield "tested on", f"{test.quantity('images', 'picture')}: {figures} (PyTorch)"
    certificate = details.under("parity")
    parity = certificate.under("torch_against_onnx")
    if parity.number("images"):
        yield (
            "parity",
            f"PyTorch and ONNX fp32 on {parity.quantity('images', 'test picture')}: probabilities differ by at "
            f"most {parity.under('probabilities').number('max'):.2g}, {parity.quantity('flips', 'flip')}",
        )
    yield from _half(certificate.under("fp32_against_fp16"))
    yield from _int8(certificate.under("fp32_against_int8"))
    calibration = certificate.under("calibration")
    if calibration.number("images"):
        yield (
            "calibration",
            f"on {calibration.quantity('images', 'test picture')}: ECE {calibration.number('ece'):.4f}, Brier score "
            f"{calibration.number('brier'):.4f}",
        )
    if (promise := guarantee_of(spec.details)) is not None:
        yield "certified", f"{promise.text} (--threshold certified: {promise.threshold:g})"
    if (rule := rule_of(spec.details)) is not None:
        yield "strangers", f"strangeness above {rule.threshold:g}: {rule.text}; cnn-infer --strangers"
    if EVIDENCE in classifier.model.available:
        with suppress(ModelError):
            yield "evidence", f"{sight(spec, classifier.model.name)}; cnn-infer --evidence FOLDER"
    if certificate.text("machine"):
        yield "exported", f"{certificate.text('exported')} on {certificate.text('machine')}"
        versions = certificate.under("versions").values
        yield "with", ", ".join(f"{name} {version}" for name, version in versions.items())
    if data.under("fingerprints").text("test"):
        yield "test set", f"SHA-256 {data.under('fingerprints').text('test')}"


def _half(proof: _Entries) -> Iterator[tuple[str, str]]:
    if not proof.number("images"):
        return
    yield "fp16", "for GPUs; a CPU computes it in fp32, no faster than model.onnx"
    yield (
        "",
        f"fp32 and fp16 on {proof.quantity('images', 'test picture')}: {proof.number('accuracy_fp32'):.2%} and "
        f"{proof.number('accuracy_fp16'):.2%}, {proof.quantity('flips', 'flip')}",
    )
    logits = proof.under("logits").number("relative")
    yield "", f"logits differ by at most {logits:.2g} of the largest one (tolerance {proof.number('tolerance'):.2g})"
    names = list(proof.under("floats").values)
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield "", f"kept in fp32: {', '.join(names[:NAMED])}{more}"


def _int8(proof: _Entries) -> Iterator[tuple[str, str]]:
    test = proof.under("test")
    if not test.number("images"):
        return
    made = f"{proof.text('recipe')}, for {proof.text('target')}" if proof.text("recipe") else "static"
    yield "int8", f"{made}, calibrated on {proof.quantity('calibration_pictures', 'training picture')}"
    yield (
        "",
        f"fp32 and int8 on {test.quantity('images', 'test picture')}: {test.number('accuracy_fp32'):.2%} and "
        f"{test.number('accuracy_int8'):.2%}, {test.quantity('flips', 'flip')}, "
        f"McNemar p {test.number('mcnemar_p'):.2f}",
    )
    if text := _integers(proof.under("integers")):
        yield "", text
    for entry in (_Entries(entry) for entry in proof.entries("latency") if isinstance(entry, Mapping)):
        yield (
            "",
            f"batch {entry.number('batch_size'):.0f}: {entry.number('fp32_ms'):.3f} ms and "
            f"{entry.number('int8_ms'):.3f} ms on one thread, {entry.number('speedup'):.2f}x",
        )
    verdict = proof.under("verdict")
    if verdict.text("reason"):
        # accurate enough, and nothing is known about its speed
        unmeasured = verdict.values.get("good_enough") and verdict.values.get("faster", False) is None
        decided = "ships" if verdict.values.get("ships") else "accurate enough" if unmeasured else "NOT shipped"
        yield "", f"{decided}: {verdict.text('reason')}"


def _integers(proof: _Entries) -> str:
    """Whether the model computes the same integers on every processor; empty if the certificate does not say so."""
    proven = proof.values.get("proven")
    outside, processors = (", ".join(map(str, proof.entries(name))) for name in ("outside", "processors"))
    if proven is True:
        rounded = [str(name) for name in proof.entries("floats")]
        more = len(rounded) - NAMED
        text = ", ".join(rounded[:NAMED]) + (f" and {more} more" if more > 0 else "")
        exception = f", except after nodes that processors round differently: {text}" if rounded else ""
        return f"the same integers on every processor{exception}"
    if proven is False and outside:
        return f"other integers on {processors or 'some processors'}, where sums can overflow: {outside}"
    return ""


class _Entries:
    """A JSON object from the specification's details. A value of an unexpected type counts as missing."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def under(self, name: str) -> _Entries:
        return _Entries(under(self.values, name))

    def entries(self, name: str) -> list[Any]:
        found = self.values.get(name)
        return found if isinstance(found, list) else []

    def text(self, name: str) -> str:
        found = self.values.get(name)
        return found if isinstance(found, str) else ""

    def number(self, name: str) -> float:
        found = self.values.get(name)
        try:
            return float(found) if isinstance(found, (int, float)) else 0.0
        except OverflowError:  # an integer of hundreds of digits
            return 0.0

    def quantity(self, name: str, noun: str) -> str:
        found = self.number(name)
        return quantity(int(found) if isfinite(found) else 0, noun)
