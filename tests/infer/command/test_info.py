"""``--info``: a summary of the model that leaves out missing and malformed details."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cnn_infer import Classifier
from cnn_infer.command.info import for_people
from cnn_infer.system import machine

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Edit = Callable[[str, str, str], bytes]

CERTIFICATE = {
    "precision": "int8",
    "data": {"name": "pictures", "images": {"train": 1200}, "fingerprints": {"test": "ab" * 32}},
    "settings": {"model": "nano", "epochs": 7},
    "metrics": {"test": {"images": 300, "accuracy": 0.9712, "macro_f1": 0.9688}},
    "parity": {
        "torch_against_onnx": {"images": 300, "probabilities": {"max": 2.5e-6}, "flips": 0},
        "fp32_against_int8": {
            "recipe": "mse, per channel",
            "target": "vnni",
            "calibration_pictures": 512,
            "test": {"images": 300, "accuracy_fp32": 0.97, "accuracy_int8": 0.9667, "flips": 3, "mcnemar_p": 0.5},
            "latency": [{"batch_size": 1, "fp32_ms": 0.3, "int8_ms": 0.1, "speedup": 3.0}],
            "verdict": {"ships": True, "reason": "it is as good"},
        },
        "machine": "a box\x1b[31m",
        "instruction_set": "neon",
        "exported": "2026-01-01T00:00:00+00:00",
        "versions": {"onnx": "1.20"},
    },
}


def with_details(models: Path, details: Any) -> Classifier:
    classifier = Classifier(models / "grey.onnx")
    spec = replace(classifier.spec, details=details)
    return Classifier(replace(classifier.model, spec=spec))


def test_the_summary_has_the_export_certificate(models: Path) -> None:
    text = for_people(with_details(models, CERTIFICATE))
    for part in (
        "grey.onnx, int8, ",
        "8 x 8 pixels, grey",
        "3: dark, middle, bright",
        "pictures, 1,200 pictures, nano, up to 7 epochs",
        "300 pictures: accuracy 97.12%, macro F1 0.9688",
        "differ by at most 2.5e-06, 0 flips",
        "mse, per channel, for vnni, calibrated on 512",
        "97.00% and 96.67%, 3 flips, McNemar p 0.50",
        "batch 1: 0.300 ms and 0.100 ms on one thread, 3.00x",
        "ships: it is as good",
        "onnx 1.20",
        "SHA-256 " + "ab" * 32,
    ):
        assert part in text
    assert "\x1b" not in text


def test_one_is_no_plural(models: Path) -> None:
    parity: Any = CERTIFICATE["parity"]
    int8 = parity["fp32_against_int8"]
    one = {
        **CERTIFICATE,
        "data": {"name": "pictures", "images": {"train": 1}},
        "settings": {"model": "nano", "epochs": 1},
        "metrics": {"test": {"images": 1, "accuracy": 1.0, "macro_f1": 1.0}},
        "parity": {
            "torch_against_onnx": {"images": 1, "probabilities": {"max": 0.0}, "flips": 1},
            "fp32_against_fp16": {"images": 1, "accuracy_fp32": 1.0, "accuracy_fp16": 0.0, "flips": 1},
            "fp32_against_int8": {**int8, "calibration_pictures": 1, "test": {**int8["test"], "images": 1, "flips": 1}},
            "calibration": {"images": 1, "ece": 0.0, "brier": 0.0},
        },
    }
    text = for_people(with_details(models, one))
    assert text.count(" 1 flip") == 3
    for part in ("pictures, 1 picture, nano, up to 1 epoch\n", "  1 picture: accuracy", "on 1 training picture\n"):
        assert part in text
    assert text.count("on 1 test picture: ") == 4
    assert not re.search(r"\b1 (picture|flip|epoch|test picture|training picture)s", text)


@pytest.mark.parametrize(
    ("integers", "printed"),
    [
        ({"proven": True, "outside": [], "floats": []}, "the same integers on every processor\n"),
        (
            {"proven": True, "outside": [], "floats": ["conv_3"]},
            "the same integers on every processor, except after nodes that processors round differently: conv_3\n",
        ),
        (
            {"proven": True, "outside": [], "floats": [f"mul_{number}" for number in range(7)]},
            "processors round differently: mul_0, mul_1, mul_2, mul_3, mul_4 and 2 more\n",
        ),
        (
            {"proven": False, "outside": ["conv_1", "conv_2"], "processors": ["x86 without VNNI"]},
            "other integers on x86 without VNNI, where sums can overflow: conv_1, conv_2\n",
        ),
    ],
)
def test_the_summary_says_where_the_integers_are_the_same(models: Path, integers: Any, printed: str) -> None:
    int8 = {**CERTIFICATE["parity"]["fp32_against_int8"], "integers": integers}
    proof = {**CERTIFICATE["parity"], "fp32_against_int8": int8}
    assert printed in for_people(with_details(models, {**CERTIFICATE, "parity": proof}))
    assert "integers" not in for_people(with_details(models, CERTIFICATE))  # a file of an older export


def test_missing_details_are_left_out(models: Path) -> None:
    lines = for_people(with_details(models, {})).splitlines()
    assert [line.split()[0] for line in lines] == ["model", "input", "classes"]


@pytest.mark.parametrize(
    "nonsense", [None, 5, "text", [1], {"images": "many"}, {"images": 10**400}, [{"batch_size": []}]]
)
def test_malformed_details_are_left_out(models: Path, nonsense: Any) -> None:
    for key in CERTIFICATE:
        for_people(with_details(models, {**CERTIFICATE, key: nonsense}))
    for key in CERTIFICATE["parity"]:
        for_people(with_details(models, {**CERTIFICATE, "parity": {**CERTIFICATE["parity"], key: nonsense}}))
    int8 = CERTIFICATE["parity"]["fp32_against_int8"]
    for key in (*int8, "integers"):
        proof = {**CERTIFICATE["parity"], "fp32_against_int8": {**int8, key: nonsense}}
        for_people(with_details(models, {**CERTIFICATE, "parity": proof}))


def test_the_command_prints_the_summary(models: Path, cli: Run) -> None:
    done = cli("--info", "--model", models / "rgb.onnx")
    assert done.stdout.startswith(b"model ")
    assert b"\nclasses " in done.stdout


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_class_names_are_printed_in_utf8_whatever_the_encoding_of_standard_output(
    models: Path, with_metadata: Edit, tmp_path: Path, cli: Run, environment: dict[str, str], form: str
) -> None:
    environment["PYTHONIOENCODING"] = "ascii"
    spec = replace(Classifier(models / "grey.onnx").spec, classes=("mörk", "中", "bright"))
    (tmp_path / "model.onnx").write_bytes(with_metadata("grey.onnx", "cnn.spec", spec.to_json()))
    assert "中".encode() in cli("--info", "--model", "model.onnx", "--format", form).stdout


def test_verify_reports_another_instruction_set(models: Path, with_metadata: Edit, tmp_path: Path, cli: Run) -> None:
    spec = Classifier(models / "grey.onnx").spec
    for named, printed in ((machine.instruction_set(), False), ("another_set", True), (5, False)):
        changed = replace(spec, details={**spec.details, "parity": {"instruction_set": named}})
        (tmp_path / "model.onnx").write_bytes(with_metadata("grey.onnx", "cnn.spec", changed.to_json()))
        done = cli("--verify", "--model", tmp_path / "model.onnx")
        assert (b"exported on another_set, this machine has" in done.stderr) is printed
