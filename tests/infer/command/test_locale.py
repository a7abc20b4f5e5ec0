"""Output in the C locale, without Python's UTF-8 mode: it is UTF-8 all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import open_model

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]

CLASSES = ("rot", "grün", "blau", "weiß")


@pytest.fixture
def ascii_locale(
    tmp_path: Path,
    models: Path,
    with_metadata: Callable[[str, str, str], bytes],
    picture: Callable[..., Path],
    environment: dict[str, str],
) -> None:
    """The C locale without Python's UTF-8 mode; a model and pictures with names that it cannot express."""
    environment.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    document = json.loads(open_model(models / "rgb.onnx").spec.to_json())
    document["classes"] = list(CLASSES)
    (tmp_path / "modèle.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", json.dumps(document)))
    picture(tmp_path / "grün" / "ä.png", "lime")
    shutil.copy(tmp_path / "grün" / "ä.png", os.fsencode(tmp_path / "grün") + b"/caf\xe9.png")


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
@pytest.mark.usefixtures("ascii_locale")
def test_rows_are_utf8_in_an_ascii_locale(tmp_path: Path, cli: Run, environment: dict[str, str], form: str) -> None:
    arguments = ("grün", "--model", "modèle.onnx", "--format", form, "--report", "ü.json")
    done = cli(*arguments, "--output", "ö")
    rows = (tmp_path / "ö").read_bytes()
    text = rows.decode()
    assert "grün/ä.png" in text
    assert "caf\\xe9.png" in text.replace("\\\\", "\\")
    assert "accuracy 100.00%" in done.stderr.decode()  # the folder has the name of the class
    assert done.stderr.decode().splitlines()[-2:] == ["wrote ö", "wrote ü.json"]
    assert cli(*arguments).stdout == rows
    for name in ("LC_ALL", "PYTHONUTF8", "PYTHONCOERCECLOCALE"):
        environment.pop(name)
    assert cli(*arguments).stdout == rows


@pytest.mark.usefixtures("ascii_locale")
def test_other_output_is_utf8_in_an_ascii_locale(cli: Run, refused: Refused, tmp_path: Path) -> None:
    model = ("--model", "modèle.onnx")
    found = cli("--info", *model)
    assert "rot, grün, blau, weiß" in found.stdout.decode()
    assert found.stderr.startswith("model: modèle.onnx".encode())
    assert json.loads(cli("--info", *model, "--format", "jsonl").stdout)["classes"] == list(CLASSES)
    assert cli("--help").stdout.startswith(b"Usage: ")
    assert cli("grün/*.png", *model).stdout.decode().count("grün/") == 2
    assert len(cli("-", *model, input="grün/ä.png\n".encode()).stdout.decode().splitlines()) == 2
    assert refused("fehlt-ä.png", *model) == "cnn-infer: no such file or folder: fehlt-ä.png"
    assert refused(b"fehlt-\xe9.png", *model) == "cnn-infer: no such file or folder: fehlt-\\xe9.png"
    assert refused("grün", *model, "--output", "ä/rows") == f"cnn-infer: no such folder: {tmp_path / 'ä'}"
    assert (
        refused("grün", "--model", "ü.onnx") == "cnn-infer: cannot read the model: ü.onnx (No such file or directory)"
    )
