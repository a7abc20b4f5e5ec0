"""Fixtures for cnn_infer: tiny models, pictures of one colour, and the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import Classifier
from PIL import Image

FOLDER = Path(__file__).parent / "models"


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the models that make_models.py writes."""
    return FOLDER


@pytest.fixture(scope="session")
def grey() -> Classifier:
    """A model of the classes dark, middle and bright, which are not in sorted order."""
    return Classifier(FOLDER / "grey.onnx")


@pytest.fixture(scope="session")
def rgb() -> Classifier:
    """A model of the classes red, green, blue and grey, which are not in sorted order."""
    return Classifier(FOLDER / "rgb.onnx")


@pytest.fixture(scope="session")
def with_metadata() -> Callable[[str, str, str], bytes]:
    """Returns a model's bytes with one metadata entry replaced: of two entries with one key, the later counts."""

    def varint(number: int) -> bytes:
        head, rest = number & 127, number >> 7
        return bytes([head | 128]) + varint(rest) if rest else bytes([head])

    def field(number: int, data: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(data)) + data

    def replace(model: str, key: str, value: str) -> bytes:
        entry = field(1, key.encode()) + field(2, value.encode("utf-8", "surrogatepass"))
        return (FOLDER / model).read_bytes() + field(14, entry)

    return replace


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Saves a picture of one colour and returns its path."""

    def save(path: Path | str, colour: object, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]
        return path

    return save


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment for processes that tests start."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cli(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs ``python -m cnn_infer`` in ``tmp_path``; checks the exit code, and that no traceback is printed."""

    def run(*arguments: str | bytes | Path, code: int = 0, **keywords: object) -> subprocess.CompletedProcess[bytes]:
        keywords.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run(
            [sys.executable, "-m", "cnn_infer", *arguments],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            **keywords,  # type: ignore[call-overload]
        )
        for sign in (b"Traceback", b"Exception ignored", b"Warning"):
            assert sign not in done.stderr, done.stderr.decode()
        assert done.returncode == code, done.stderr.decode()
        return done

    return run


@pytest.fixture
def refused(cli: Callable[..., subprocess.CompletedProcess[bytes]]) -> Callable[..., str]:
    """Runs a command that must fail without standard output; returns its one line on standard error."""

    def run(*arguments: str | bytes | Path, code: int = 2, **keywords: object) -> str:
        done = cli(*arguments, code=code, **keywords)
        assert not done.stdout
        lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("model: ")]
        assert len(lines) == 1, lines
        assert lines[0].startswith("cnn-infer: ")
        return lines[0]

    return run
