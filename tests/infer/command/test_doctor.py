"""``cnn-infer --doctor``: what it finds on this machine, with builds that clash or crash, and for a model file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cnn_infer import Classifier, open_model
from cnn_infer.doctor import fit, host, packages
from cnn_infer.doctor.findings import Finding, for_people
from cnn_infer.providers.probe import RUNTIME, Answer, ask
from cnn_infer.system import machine

Cli = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]
WithMetadata = Callable[[str, str, str], bytes]

ALWAYS = ("python", "cnn-infer", "numpy", "pillow", "simplejpeg", "click", "rich", "builds", "onnxruntime")
ALWAYS += ("telemetry", "jinja2", "pillow-heif", "fsspec", "ray")
ALWAYS += ("processor", "instruction set", "threads", "memory", "gpu")
"""The names that every report has, in this order."""


def report(done: subprocess.CompletedProcess[bytes]) -> dict[str, dict[str, str]]:
    """The findings by name, after a check of the schema."""
    document: dict[str, Any] = json.loads(done.stdout)
    assert [*document] == ["format", "usable", "findings"]
    assert document["format"] == 1
    for finding in document["findings"]:
        assert [*finding] == ["name", "status", "found", "advice"]
        assert finding["status"] in ("ok", "note", "error")
        assert finding["found"]
        assert finding["advice"]
        assert not any("\n" in text for text in finding.values())
    assert document["usable"] is all(finding["status"] != "error" for finding in document["findings"])
    assert document["usable"] is (done.returncode == 0)
    names = [finding["name"] for finding in document["findings"]]
    assert [name for name in names if name in ALWAYS] == [*ALWAYS]
    return {finding["name"]: finding for finding in document["findings"]}


def test_it_says_what_is_there_and_whether_a_model_fits(cli: Cli, environment: dict[str, str], models: Path) -> None:
    environment["ORT_DISABLE_TELEMETRY"] = "0"
    found = report(cli("--doctor", "--format", "jsonl", "--model", models / "rgb.onnx", "--device", "cpu"))
    assert found["python"]["found"].startswith(".".join(map(str, sys.version_info[:3])))
    assert found["providers"]["found"].startswith("cpu") or "cpu" in found["providers"]["found"]
    assert f"{machine.usable_cpus()} of " in found["threads"]["found"]
    assert "8 x 8 pixels, 4 classes, opset 20" in found["model"]["found"]
    assert found["device"]["found"].startswith("CPUExecutionProvider (asked for)")
    lines = for_people([Finding(**finding) for finding in found.values()]).splitlines()  # type: ignore[arg-type]
    place = next(place for place, line in enumerate(lines) if line.startswith("note   telemetry "))
    assert lines[place + 1].strip() == "-> unset ORT_DISABLE_TELEMETRY: cnn-infer switches it off"
    assert lines[-1] == "usable"


def test_two_builds_are_an_error_that_counts_once(
    cli: Cli, environment: dict[str, str], tmp_path: Path, models: Path
) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        (tmp_path / f"{name}-1.20.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.20.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.20.0\n")
    environment["PYTHONPATH"] = str(tmp_path)
    done = cli("--doctor", "--format", "jsonl", "--model", models / "rgb.onnx", code=1)
    found = report(done)
    assert found["device"]["status"] == "note"
    assert found["device"]["advice"] == "first fix builds"
    assert found["builds"]["status"] == "error"
    assert found["builds"]["found"] == "onnxruntime and onnxruntime-gpu overwrite each other"
    assert found["builds"]["advice"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu, then pip install")
    assert done.stderr.decode() == "cnn-infer: --doctor found errors: builds\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "the process was ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "the process was ended by signal 40"),
        ("raise ImportError('libfoo.so: cannot open shared object file')", "libfoo.so: cannot open"),
    ],
)
def test_a_broken_onnx_runtime_is_named(
    cli: Cli, environment: dict[str, str], tmp_path: Path, models: Path, code: str, reason: str
) -> None:
    (tmp_path / "broken" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "broken" / "onnxruntime" / "__init__.py").write_text(code)
    environment["PYTHONPATH"] = str(tmp_path / "broken")
    done = cli("--doctor", "--format", "jsonl", "--model", models / "rgb.onnx", code=1)
    found = report(done)
    assert found["onnxruntime"]["status"] == "error"
    assert reason in found["onnxruntime"]["found"]
    assert found["onnxruntime"]["advice"].startswith("pip install --force-reinstall onnxruntime")
    assert found["model"]["status"] == "ok"
    assert found["device"]["status"] == "note"
    assert done.stderr.decode() == "cnn-infer: --doctor found errors: onnxruntime\n"


def test_one_processor_is_no_plural(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for name, value in (("usable_cpus", 1), ("allowed_cpus", {0}), ("cgroup_quota", None)):
        monkeypatch.setattr(machine, name, lambda value=value: value)
    found = next(finding for finding in host.findings() if finding.name == "threads")
    assert found.found == "1 of 1 processor"
    assert found.advice == "the default is 1 worker thread; --threads auto measures more"


def test_text_around_an_answer_is_skipped() -> None:
    assert ask("print('loading'); print('{\"a\": 1}'); print('7'); print('[bye')").value == {"a": 1}
    assert "version" in ask(f"print('loading', end='')\n{RUNTIME}").value
    assert ask("print('hello')").error == "the process gave no answer but hello"
    assert ask("").error == "the process gave no answer but nothing"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--doctor", "a.png", "--top", "2"), "no effect with --doctor: PATH, --top"),
        (("--doctor", "--device-option", "a=1"), "no effect with --doctor without --model: --device-option"),
        (("--doctor", "--format", "csv"), "--doctor takes --format table or jsonl, not csv"),
        (("--doctor", "--format", "parquet"), "--doctor takes --format table or jsonl, not parquet"),
        (
            ("--doctor", "--format", "json"),
            "pass jsonl: one JSON document a row, and a single one for --info, --doctor",
        ),
    ],
)
def test_mistakes_are_one_line(refused: Refused, arguments: tuple[str, ...], text: str) -> None:
    assert text in refused(*arguments)


@pytest.mark.parametrize(
    ("target", "proven", "here", "status"),
    [
        ("any", True, "avx2", "ok"),
        ("vnni", False, "avx512_vnni", "ok"),
        ("vnni", False, "avx2", "error"),
        ("arm", False, "avx2", "error"),
        ("avx2", False, "avx2", "note"),
        ("avx2", False, "avx_vnni", "note"),
    ],
)
def test_an_int8_file_is_held_against_the_instruction_set(
    rgb: Classifier, with_metadata: WithMetadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str,
    proven: bool, here: str, status: str,
) -> None:  # fmt: skip
    spec = json.loads(rgb.spec.to_json())
    proof = {"target": target, "integers": {"proven": proven}}
    spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
    (tmp_path / "model.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec)))
    monkeypatch.setattr(machine, "instruction_set", lambda: here)
    monkeypatch.setattr(fit, "ask", lambda *_: fit_answer())
    found = {finding.name: finding for finding in fit.findings(str(tmp_path / "model.onnx"), "cpu", {})}
    assert found["int8"].status == status
    assert target in found["int8"].found
    assert here in found["int8"].found


def test_an_int8_file_on_a_system_that_does_not_name_instructions_is_a_note(
    rgb: Classifier, with_metadata: WithMetadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, and macOS on Intel: the file may be the right one."""
    spec = json.loads(rgb.spec.to_json())
    proof = {"target": "vnni", "integers": {"proven": False}}
    spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
    (tmp_path / "model.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec)))
    monkeypatch.setattr(fit, "ask", lambda *_: fit_answer())
    monkeypatch.setattr(machine, "instruction_set", lambda: "generic")
    for flags, status in ((frozenset(), "note"), (frozenset({"sse2"}), "error")):
        monkeypatch.setattr(machine, "cpu_flags", lambda flags=flags: flags)
        found = {finding.name: finding for finding in fit.findings(str(tmp_path / "model.onnx"), "cpu", {})}
        assert found["int8"].status == status
        box = {finding.name: finding for finding in host.findings()}["instruction set"]
        for text in (found["int8"].found, box.found):
            assert ("this system does not name the instructions of the processor" in text) == (status == "note")


def fit_answer() -> Answer:
    return Answer({"provider": "CPUExecutionProvider", "chosen": "asked for", "nodes": {}})


def test_a_model_that_cannot_be_read_is_a_finding_beside_those_of_the_machine(
    cli: Cli, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.onnx").write_bytes((models / "rgb.onnx").read_bytes()[:700])
    for path, text in ((models / "foreign.onnx", "not one that cnn-export wrote"), (tmp_path / "cut.onnx", "damaged")):
        (found,) = fit.findings(str(path), "cpu", {})
        assert (found.name, found.status) == ("model", "error")
        assert text in found.found
    done = cli("--doctor", "--format", "jsonl", "--model", "absent.onnx", code=1)
    assert report(done)["model"]["found"].startswith("cannot read the model: absent.onnx")
    assert done.stderr.decode() == "cnn-infer: --doctor found errors: model\n"


@pytest.mark.parametrize(
    ("error", "device", "advice"),
    [
        ("ModelError: a.onnx (Unsupported model IR version: 99)", "cpu", "pip install -U onnxruntime-gpu"),
        ("ModelError: a.onnx (ONNX Runtime supports till opset 26)", "cpu", "pip install -U onnxruntime-gpu"),
        ("ModelError: not an ONNX model, or damaged: a.onnx", "auto", "export it again"),
        ("DeviceError: no CUDA", "cuda", "do what the reason names, or pass --device cpu"),
    ],
)
def test_a_newer_onnx_runtime_is_advised_only_where_the_reason_names_a_version(
    models: Path, monkeypatch: pytest.MonkeyPatch, error: str, device: str, advice: str
) -> None:
    monkeypatch.setattr(fit, "ask", lambda *_: Answer(error=error))
    monkeypatch.setattr(packages, "_version", lambda name: "1.30" if name == "onnxruntime-gpu" else None)
    found = {finding.name: finding for finding in fit.findings(str(models / "rgb.onnx"), device, {})}["device"]
    assert (found.status, found.advice) == ("error", advice)


def test_limits_of_a_container_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{256 << 20}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    monkeypatch.setattr(machine, "_cgroups", lambda _: iter([tmp_path]))
    found: dict[str, Finding] = {finding.name: finding for finding in host.findings()}
    assert found["memory"].found == "256 MiB, limit of the control group"
    assert found["memory"].status == found["threads"].status == "note"
    assert "the control group allows 0.5" in found["threads"].found
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_limit() is None


def test_a_driver_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI could not communicate with the driver'; exit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in host.findings()}["gpu"]
    assert (found.status, found.advice) == ("note", "repair the driver of NVIDIA before --device cuda")
    assert "could not communicate" in found.found
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 570.1, 81559 MiB'\n")
    assert {finding.name: finding for finding in host.findings()}["gpu"].found == "NVIDIA H100, 570.1, 81559 MiB"


def test_a_normal_start_does_not_load_the_doctor(models: Path) -> None:
    code = (
        "import sys, cnn_infer.command.cli, cnn_infer; cnn_infer.open_model(sys.argv[1]);"
        "print([name for name in sys.modules if 'doctor' in name or name in ('importlib.metadata', 'subprocess')"
        " or name.startswith('onnxruntime_') or name == 'cnn_infer.providers.binding'])"
    )
    done = subprocess.run([sys.executable, "-c", code, models / "rgb.onnx"], capture_output=True, text=True, check=True)
    assert open_model(models / "rgb.onnx").bound is None
    assert "doctor" not in done.stdout
    assert "binding" not in done.stdout
    assert "onnxruntime_" not in done.stdout
