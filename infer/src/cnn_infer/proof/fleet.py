"""The certificates of several machines side by side: which agree with the export, and where the others differ."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_infer.errors import InputError
from cnn_infer.model import read_model
from cnn_infer.paths.naming import printable
from cnn_infer.proof.certificate import read_certificate

AGREES = "agrees"
ANOTHER_MODEL = "proves another model"


@dataclass(frozen=True)
class Box:
    """One machine, from its certificate.

    Attributes:
        certificate: Path of the certificate.
        result: ``agrees``, ``agrees (graph only)``, ``proves another model``, or ``differs in`` and the first stage.
        model: File name of the model.
        sha256: SHA-256 of the model, hexadecimal.
        created: When it was verified: time in UTC, ISO 8601.
        instruction_set: The instruction set for int8.
        p50_ms: Median time from the bytes of a picture to probabilities at batch size 1, in milliseconds.
        machine: Processor and operating system.
    """

    certificate: str
    result: str
    model: str
    sha256: str
    created: str
    instruction_set: str
    p50_ms: float
    machine: str

    @property
    def agrees(self) -> bool:
        """Whether this machine gives what the export gave, for the same model as the others."""
        return self.result.startswith(AGREES)


def fleet(paths: Iterable[str], model: str | os.PathLike[str] | None = None) -> list[Box]:
    """Sum up certificates.

    Args:
        paths: Certificates, folders with ``*.json`` files, and patterns such as ``boxes/*.json``.
        model: The model that they must prove; None for the one that most of them prove.

    Raises:
        InputError: a path does not exist, or a file is damaged or no certificate.
        ModelError: the model cannot be read.
    """
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    found = [(file, read_certificate(file)) for file in files]
    wanted = _most_frequent([entry["model"]["sha256"] for _, entry in found]) if model is None else _digest(model)
    return [_box(file, entry, wanted) for file, entry in found]


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        files = sorted(glob.glob(os.path.join(glob.escape(path), "*.json")))  # noqa: PTH207 - keeps names not in UTF-8
    else:
        files = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    if not files:
        raise InputError(f"no certificate: {printable(path)}")
    return files


def _most_frequent(digests: Sequence[str]) -> str:
    """Of those that are equally frequent, the first."""
    return Counter(digests).most_common(1)[0][0]


def _digest(model: str | os.PathLike[str]) -> str:
    return hashlib.sha256(read_model(model)[1]).hexdigest()


def _box(file: str, entry: dict[str, Any], wanted: str) -> Box:
    model, machine = entry["model"], entry["machine"]
    if model["sha256"] != wanted:
        result = ANOTHER_MODEL
    elif not entry["passed"]:
        result = f"differs in {entry['deviations'][0]['stage']}"
    else:
        result = AGREES if entry["covers_pixels"] else f"{AGREES} (graph only)"
    return Box(
        certificate=printable(file),
        result=result,
        model=model["name"],
        sha256=model["sha256"],
        created=entry["created"],
        instruction_set=machine["instruction_set"],
        p50_ms=float(entry["latency"]["total_ms"]["p50"]),
        machine=machine["description"],
    )
