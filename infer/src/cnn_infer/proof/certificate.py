"""Certificates: what ``--verify`` proved on one machine, as a JSON file. ``docs/contract.md`` describes the format.

A certificate names the processor and the versions of the libraries. It has no host name, user name, path or picture.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_infer.classifier import Classifier
from cnn_infer.errors import InputError
from cnn_infer.latency import percentiles
from cnn_infer.model import CONFORMANCE_KEY
from cnn_infer.paths.naming import printable
from cnn_infer.proof.conformance import read as read_conformance
from cnn_infer.proof.golden import pictures_of, proves_integers
from cnn_infer.system import machine

if TYPE_CHECKING:
    from cnn_infer.proof.verification import Verification

KIND = "cnn-infer certificate"
FORMAT = 1
"""Version of the JSON document. Any other version is refused."""

LATENCY_SECONDS = 1.0
"""Duration of the measurement of the latency, in seconds."""

LEAST_CALLS = 20
"""Smallest number of calls in the measurement."""

MAX_BYTES = 16 << 20
"""Larger files are not read as certificates."""


def certificate_of(
    classifier: Classifier, found: Verification, *, judgement: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the certificate of this machine, and measure its latency for a second.

    Args:
        classifier: The verified model.
        found: The result of :func:`cnn_infer.verify_all`.
        judgement: The result of ``--judge``, as JSON; None if it was not asked for.
    """
    return {
        "kind": KIND,
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {
            "name": os.path.basename(classifier.model.name),
            "sha256": classifier.model.digest,
            "precision": classifier.spec.precision,
        },
        "machine": {
            "description": machine.description(),
            "instruction_set": machine.instruction_set(),
            "provider": classifier.provider,
            "nodes": dict(classifier.model.nodes),
            "python": platform.python_version(),
        },
        "versions": dict(found.here),
        "versions_at_export": dict(found.exported),
        "passed": found.passed,
        "covers_pixels": found.covers_pixels,
        "proven_integers": proves_integers(classifier),
        "tolerance": found.tolerance,
        "stages": [asdict(result) for result in found.stages],
        "deviations": [asdict(deviation) for deviation in found.deviations],
        "latency": latency_of(classifier),
        "judgement": None if judgement is None else dict(judgement),
    }


def to_json(certificate: Mapping[str, Any]) -> str:
    """Return a certificate as JSON. NaN and infinite numbers, which JSON does not have, become null."""
    return json.dumps(_finite(certificate), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def latency_of(classifier: Classifier) -> dict[str, Any]:
    """Measure the time per picture at batch size 1 on one thread, on pictures inside the model.

    Returns:
        ``pictures`` (which ones), ``calls``, and ``pixels_ms``, ``model_ms`` and ``total_ms`` with ``p50``, ``p90``,
        ``p99`` and ``mean`` in milliseconds: from bytes to pixels, the model, and both.
    """
    which, pictures = timed_pictures(classifier)
    classifier = Classifier(classifier.model)  # with the default limits on the size of pictures
    rows: list[tuple[float, float]] = []
    until = None
    while until is None or time.perf_counter() < until or len(rows) < LEAST_CALLS:
        if until is None and len(rows) == len(pictures):  # each was classified once to warm up
            rows, until = [], time.perf_counter() + LATENCY_SECONDS
        start = time.perf_counter()
        pixels = classifier.pixels(pictures[len(rows) % len(pictures)])
        middle = time.perf_counter()
        classifier.probabilities(pixels[None])
        rows.append((1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)))
    times = np.array(rows)
    columns = {"pixels_ms": times[:, 0], "model_ms": times[:, 1], "total_ms": times.sum(axis=1)}
    return {"pictures": which, "calls": len(rows)} | {name: percentiles(values) for name, values in columns.items()}


def timed_pictures(classifier: Classifier) -> tuple[str, list[bytes]]:
    """Return pictures inside a model to measure its speed with, each as the bytes of a file, and which ones they are.

    They are the user's own test pictures as files, else the golden pictures, else the drawn files.
    """
    text = classifier.model.metadata.get(CONFORMANCE_KEY)
    files = [] if text is None else read_conformance(text)[0]
    own = [file.data for file in files if file.own]
    if own:
        return "test pictures, as files", own
    golden = pictures_of(classifier)
    return ("golden pictures, as PNG", golden) if golden else ("drawn files", [file.data for file in files])


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a certificate.

    Raises:
        InputError: the file cannot be read, is damaged, or is no certificate.
    """
    name = printable(path)
    try:
        with open(path, "rb") as stream:
            text = stream.read(MAX_BYTES + 1)
        document = json.loads(text) if len(text) <= MAX_BYTES else None
    except OSError as error:
        raise InputError(f"cannot read the certificate {name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is damaged, or not a certificate of cnn-infer: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise InputError(f"{name} is not a certificate: cnn-infer --verify --certificate FILE writes one")
    if document.get("format") != FORMAT:
        raise InputError(
            f"{name} has format {document.get('format')!r}; this version reads {FORMAT}: upgrade cnn-infer"
        )
    problem = _problem(document)
    if problem:
        raise InputError(f"{name} is damaged: {problem}: write it again with cnn-infer --verify --certificate")
    return document


def _problem(document: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the entries that a summary needs, or None."""
    texts = {"model": ("name", "sha256", "precision"), "machine": ("description", "instruction_set")}
    for key, names in texts.items():
        entry = document.get(key)
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in names):
            return f"{key} is missing or incomplete"
    for key in ("passed", "covers_pixels"):
        if not isinstance(document.get(key), bool):
            return f"{key} is not true or false"
    if not isinstance(document.get("created"), str):
        return "created is missing"
    deviations = document.get("deviations")
    if not isinstance(deviations, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("stage"), str) for entry in deviations
    ):
        return "deviations are missing or incomplete"
    if document["passed"] != (not deviations):
        return "passed and deviations contradict each other"
    try:
        if not math.isfinite(float(document["latency"]["total_ms"]["p50"])):
            return "latency is no number"
    except (KeyError, TypeError, ValueError, OverflowError):
        return "latency is missing or incomplete"
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # lone surrogates
        return f"its texts must be valid Unicode: {error}"
    return None
