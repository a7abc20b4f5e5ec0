"""Certificates of single machines, and the table of a fleet, with the real command."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cnn_infer import Classifier, InputError
from cnn_infer.proof.conformance import ConformanceFile, pack, recorded
from cnn_infer.proof.fleet import fleet as fleet_of

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]
Edit = Callable[[str, str, str], bytes]


@pytest.fixture(scope="module")
def certificate(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The certificate of ``rgb.onnx`` on this machine, made by the Python functions."""
    from cnn_infer import verify_all
    from cnn_infer.proof.certificate import certificate_of

    model = Classifier(models / "rgb.onnx")
    return certificate_of(model, verify_all(model))


def write(path: Path, certificate: dict[str, Any], **changes: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**certificate, **changes}))
    return path


@pytest.fixture
def fleet(tmp_path: Path, certificate: dict[str, Any]) -> Path:
    """Certificates of five machines: two agree, and each of the others is another kind."""
    folder = tmp_path / "boxes"
    proven = {"covers_pixels": True}
    write(folder / "a.json", certificate, **proven)
    write(folder / "b.json", certificate)
    write(folder / "c.json", certificate, passed=False, deviations=[{"stage": "resize"}], **proven)
    write(folder / "d.json", certificate, model={**certificate["model"], "sha256": "0" * 64}, **proven)
    write(folder / "e.json", certificate, **proven)
    return folder


def test_a_certificate_has_what_was_proven(models: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("--verify", "--model", models / "rgb.onnx", "--certificate", "box.json")
    assert b"wrote box.json" in done.stderr
    assert b"not covered: decode, orientation, colour, resize (the model has no conformance files" in done.stderr
    found = json.loads((tmp_path / "box.json").read_text())
    assert found["kind"] == "cnn-infer certificate"
    assert found["model"] == {
        "name": "rgb.onnx",
        "sha256": hashlib.sha256((models / "rgb.onnx").read_bytes()).hexdigest(),
        "precision": "fp32",
    }
    assert (found["passed"], found["covers_pixels"], found["tolerance"]) == (True, False, 1e-4)
    assert [(stage["stage"], stage["compared"], stage["agreed"]) for stage in found["stages"]] == [("graph", 4, 4)]
    assert (found["deviations"], found["judgement"]) == ([], None)
    assert found["versions"]["onnxruntime"]
    latency = found["latency"]
    assert latency["pictures"] == "golden pictures, as PNG"
    assert latency["calls"] >= 20
    assert 0 < latency["total_ms"]["p50"] <= latency["total_ms"]["p90"] <= latency["total_ms"]["p99"]


def test_a_certificate_has_no_names_of_the_machine_the_user_or_folders(
    models: Path, tmp_path: Path, cli: Run, environment: dict[str, str]
) -> None:
    environment["USER"] = environment["LOGNAME"] = "someone"
    model = shutil.copy(models / "rgb.onnx", tmp_path / "secret.onnx")
    cli("--verify", "--model", Path(model).absolute(), "--certificate", "box.json")
    text = (tmp_path / "box.json").read_text()
    assert '"name": "secret.onnx"' in text
    for private in (str(tmp_path), "someone", str(Path.home()), platform.node()):
        assert private not in text


def test_a_machine_that_differs_gets_its_certificate_too(
    rgb: Classifier, with_metadata: Edit, picture: Callable[..., Path], tmp_path: Path, cli: Run
) -> None:
    data = picture(tmp_path / "picture.png", "red", (12, 12)).read_bytes()
    stages = recorded(data, rgb.spec)
    files = [
        ConformanceFile(f"file {n}", "PNG", True, data, {**stages, "resize": stages["decode"]}, {0: 0.5})
        for n in range(10)
    ]
    (tmp_path / "model.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.conformance", pack(files)))
    done = cli("--verify", "--model", "model.onnx", "--certificate", "box.json", code=1)
    lines = done.stderr.decode().splitlines()
    assert lines[-1] == "cnn-infer: resize differs for 10 of 10 files"
    assert "    and 2 more: --certificate FILE writes all of them" in lines
    assert "  probabilities: not compared, every file differs before" in lines
    found = json.loads((tmp_path / "box.json").read_text())
    assert found["passed"] is False
    assert [deviation["stage"] for deviation in found["deviations"]] == ["resize"] * 10
    assert found["latency"]["pictures"] == "test pictures, as files"
    assert b"differs in resize" in cli("--fleet", "box.json", code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--verify", "--certificate", "a.png"), "a.png has the name of a picture or a model"),
        (("--verify", "--certificate", "linked"), "linked is also an input"),
        (("--verify", "--certificate", "absent/box.json"), "no such folder"),
        (
            ("--verify", "a.png", "--output", "r", "--certificate", "r"),
            "--output and --certificate name the same file: r",
        ),
        (("--info", "--certificate", "box.json"), "no effect without --verify"),
    ],
)
def test_a_certificate_does_not_replace_another_file(
    models: Path, tmp_path: Path, refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    shutil.copy(models / "rgb.onnx", tmp_path / "model.onnx")
    os.link(tmp_path / "model.onnx", tmp_path / "linked")
    assert message in refused(*arguments, "--model", "model.onnx")
    assert not (tmp_path / "box.json").exists()


def test_a_fleet_in_a_table(fleet: Path, cli: Run) -> None:
    done = cli("--fleet", "boxes/*.json", code=1)
    header, *rows = done.stdout.decode().splitlines()
    assert header.split()[:3] == ["certificate", "result", "model"]
    results = ["agrees", "agrees (graph only)", "differs in resize", "proves another model", "agrees"]
    assert [row.split("  ")[0] for row in rows] == [f"boxes/{name}.json" for name in "abcde"]
    for row, result in zip(rows, results, strict=True):
        assert f"  {result}  " in row
    last = done.stderr.decode().splitlines()[-1]
    assert last == "cnn-infer: 2 of 5 certificates do not agree; the first is boxes/c.json: differs in resize"


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_fleet_for_programs(fleet: Path, cli: Run, form: str) -> None:
    text = cli("--fleet", "boxes", "--format", form, code=1).stdout.decode()
    rows = [json.loads(line) for line in text.splitlines()] if form == "jsonl" else [*csv.DictReader(text.splitlines())]
    assert [row["result"] for row in rows][2:4] == ["differs in resize", "proves another model"]
    assert float(rows[0]["p50_ms"]) > 0


def test_machines_that_agree_are_exit_code_0(fleet: Path, models: Path, cli: Run) -> None:
    done = cli("--fleet", "boxes/a.json", "boxes/e.json", "boxes/a.json", "--model", models / "rgb.onnx")
    assert done.stderr.decode().startswith("2 certificates agree with the export of rgb.onnx, SHA-256 ")


def test_a_named_model_decides_which_is_another(fleet: Path, models: Path, cli: Run) -> None:
    done = cli("--fleet", "boxes/a.json", "--model", models / "grey.onnx", code=1)
    assert b"proves another model" in done.stdout


def test_damaged_and_foreign_files_are_one_line(
    tmp_path: Path, certificate: dict[str, Any], models: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: dict[str, tuple[Any, str]] = {
        "passed": ("yes", "is damaged: passed"),
        "deviations": ([5], "is damaged: deviations"),
        "latency": ({}, "is damaged: latency"),
        "model": ({"name": "a"}, "is damaged: model"),
        "machine": (5, "is damaged: machine"),
        "created": (None, "is damaged: created"),
        "format": (2, "has format 2; this version reads 1: upgrade cnn-infer"),
        "kind": ("a letter", "is not a certificate"),
    }
    files = {key: (write(tmp_path / f"{key}.json", certificate, **{key: value}), message)
             for key, (value, message) in broken.items()}  # fmt: skip
    (tmp_path / "text").write_text("{")
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "bytes").write_bytes(b"\xff\0")
    contradiction = write(tmp_path / "both.json", certificate, passed=False)
    assert "contradict each other" in refused("--fleet", contradiction)
    monkeypatch.chdir(tmp_path)
    for path, message in [
        *files.values(),
        ("text", "is damaged, or not a certificate of cnn-infer"),
        ("list", "is not a certificate: cnn-infer --verify --certificate FILE writes one"),
        ("bytes", "is damaged, or not a certificate of cnn-infer"),
        (models / "rgb.onnx", "not a certificate"),
        ("absent.json", "no certificate: absent.json"),
        ("none*.json", "no certificate: none*.json"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)) as raised:
            fleet_of([str(path)])
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
@pytest.mark.parametrize(
    "changes",
    [
        {"created": "\ud800"},
        {"machine": {"description": "\udfff", "instruction_set": "avx2"}},
        {"latency": {"total_ms": {"p50": float("nan")}}},
        {"latency": {"total_ms": {"p50": "1e999"}}},
    ],
    ids=["created", "machine", "nan", "infinite"],
)
def test_values_that_no_table_can_hold_are_refused(
    tmp_path: Path, certificate: dict[str, Any], refused: Refused, changes: dict[str, Any], form: str
) -> None:
    write(tmp_path / "box.json", certificate, **changes)
    assert "box.json is damaged: " in refused("--fleet", "box.json", "--format", form)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fleet",), "--fleet sums up certificates: name them, a folder or a pattern"),
        (("--fleet", "a.json", "--top", "3"), "no effect with --fleet: --top"),
        (("--fleet", "a.json", "--verify"), "no effect with --fleet: --verify"),
        (("--fleet", "a.json", "--device", "cpu"), "no effect with --fleet: --device"),
        (("--fleet", "a.json", "--format", "parquet"), "--fleet takes --format table, jsonl or csv, not parquet"),
        (("--fleet", "boxes/a.json", "--model", "memory://a.onnx"), "cannot read the model"),
    ],
)
def test_options_without_effect_on_a_fleet_are_refused(
    fleet: Path, refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)
