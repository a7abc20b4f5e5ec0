"""Devices: what is missing names its package, nothing falls back silently, and bound memory changes no result."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, DeviceError, InputError, latency, open_model
from cnn_infer.command.verify import verify_model
from cnn_infer.proof.golden import proves_integers
from cnn_infer.providers import devices, plugins, session

ort = pytest.importorskip("onnxruntime")

Refused = Callable[..., str]
RECORDS = pytest.mark.skipif(not hasattr(ort, "get_ep_devices"), reason="this ONNX Runtime has no record of nodes")
AVAILABLE = ort.get_available_providers()
RECORD = "get_provider_graph_assignment_info"
"""The method of ONNX Runtime 1.24 and later that says which provider runs which nodes."""


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the plugin packages that are installed."""
    for device in devices.BY_NAME.values():
        if device.plugin is not None:
            monkeypatch.setitem(sys.modules, device.plugin.module, None)


@pytest.fixture
def fake_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a package for qnn whose library is not one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime_qnn", raising=False)
    (tmp_path / "onnxruntime_qnn.py").write_text("def get_library_path():\n    return __file__\n")


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize(
    ("device", "how"),
    [
        ("cuda", "pip uninstall -y onnxruntime, then pip install 'cnn-infer[gpu]' (two builds"),
        ("tensorrt", "it needs the libraries of TensorRT too"),
        ("tensorrt-rtx", "pip install onnxruntime-ep-nv-tensorrt-rtx"),
        ("openvino", "pip install onnxruntime-ep-openvino; or pip uninstall -y onnxruntime, then pip install onnxr"),
        ("qnn", "pip install onnxruntime-qnn"),
        ("webgpu", "pip install onnxruntime-ep-webgpu; or "),
        ("directml", "pip install onnxruntime-directml (two builds of ONNX Runtime overwrite each other); Windows"),
        ("rocm", "pip install onnxruntime-migraphx"),
        ("cann", "pip install onnxruntime-cann"),
        ("coreml", "macOS only"),
        ("nnapi", "Android only"),
        ("xnnpack", "--use_xnnpack"),
    ],
)
def test_a_missing_device_names_its_package(models: Path, device: str, how: str) -> None:
    if devices.BY_NAME[device].provider in AVAILABLE:
        pytest.skip(f"this ONNX Runtime has {device}")
    with pytest.raises(DeviceError) as found:
        open_model(models / "grey.onnx", device=device)
    assert how in str(found.value)
    assert "\n" not in str(found.value)


def test_every_device_has_a_line(models: Path) -> None:
    assert ("auto", *devices.BY_NAME) == devices.DEVICES
    assert {"cuda", "tensorrt", "openvino", "qnn", "coreml", "directml", "webgpu"} < {*devices.BY_NAME}


@pytest.mark.usefixtures("fake_plugin")
def test_a_plugin_that_does_not_load_is_one_line(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="the plugin onnxruntime-qnn does not load: ") as found:
        open_model(models / "grey.onnx", device="qnn")
    assert "\n" not in str(found.value)
    monkeypatch.delattr(ort, "get_ep_devices")
    monkeypatch.setattr(ort, "__version__", "1.20.0")
    with pytest.raises(DeviceError, match=r"need ONNX Runtime 1.23 or later, 1.20.0 is installed: pip install -U"):
        open_model(models / "grey.onnx", device="qnn")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"device_type": "NPU"}, DeviceError, "come up: openvino has no device NPU on this machine"),
        ({"device_type": "GPU"}, DeviceError, "come up: openvino has no device GPU on this machine"),
        (
            {"device_type": "GPU", "precision": "FP99"},
            DeviceError,
            "openvino has no device GPU on this machine, or does not accept precision=FP99",
        ),
        ({"num_of_threads": "x"}, DeviceError, "openvino does not accept num_of_threads=x"),
        ({"io_binding": "off"}, DeviceError, "come up: install the driver and the libraries"),
        ({"device_typ": "CPU"}, InputError, "OpenVINOExecutionProvider does not know the option device_typ"),
        ({"device_type": "gpu"}, InputError, "device_type is CPU, GPU or NPU, not 'gpu'"),
    ],
)
def test_a_build_of_openvino_that_refuses_an_option_says_which(
    models: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], error: type[Exception], text: str
) -> None:
    """Such a build writes the reason into its log only, then gives a session on the CPU, unless that is forbidden."""
    real, severities = ort.InferenceSession, []

    def create(data: bytes, settings: Any, providers: list[Any], **_: Any) -> Any:
        if "device_typ" in providers[0][1]:
            raise RuntimeError("/onnxruntime/python/state.cc:1053 Create(int) Invalid OpenVINO EP option: device_typ")
        if len(providers) == 1:
            raise RuntimeError(f"1 : FAIL : {session.CPU_NODES[0]} by the user.")
        return real(data, settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["OpenVINOExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", create)
    monkeypatch.setattr(ort, "set_default_logger_severity", severities.append)
    with pytest.raises(error) as found:
        open_model(models / "grey.onnx", device="openvino", device_options=options)
    assert text in str(found.value)
    refused_early, no_option = "gpu" in text, "install the driver" in text
    assert severities == ([] if refused_early or no_option else [4, 2])


@pytest.mark.usefixtures("no_plugins")
def test_processors_of_other_makers_are_sent_to_the_build_of_openvino(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "; on processors of other makers install onnxruntime-openvino in an environment of its own"
    if "OpenVINOExecutionProvider" not in AVAILABLE:
        with pytest.raises(DeviceError, match=text):
            open_model(models / "grey.onnx", device="openvino")
    monkeypatch.setattr(ort, "get_ep_devices", list, raising=False)
    monkeypatch.setattr(ort, "__version__", "1.32.0")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", SimpleNamespace(get_library_path=lambda: "absent.so"))
    monkeypatch.setattr(ort, "register_execution_provider_library", lambda *_: None, raising=False)
    with pytest.raises(DeviceError, match=f"needs an Intel processor, GPU or NPU{text}; --device cpu runs everywhere"):
        plugins.plugin_devices(ort, "openvino")


@pytest.mark.skipif(not importlib.util.find_spec("onnxruntime_ep_webgpu"), reason="needs onnxruntime-ep-webgpu")
def test_webgpu_runs_or_says_what_it_needs(models: Path, rgb: Classifier) -> None:
    picture = np.full((4, *rgb.spec.shape), 200, np.uint8)
    reason, found = "", rgb.probabilities(picture)
    try:
        found = Classifier(models / "rgb.onnx", device="webgpu").probabilities(picture)
    except DeviceError as error:
        reason = str(error)
    assert "\n" not in reason
    assert not reason or "webgpu" in reason.lower()
    np.testing.assert_allclose(found, rgb.probabilities(picture), atol=1e-3)


@pytest.mark.skipif("AzureExecutionProvider" not in AVAILABLE, reason="this ONNX Runtime has no provider without nodes")
@pytest.mark.parametrize("counted_by", [pytest.param("record", marks=RECORDS), "profile"])
def test_a_provider_that_runs_no_node_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, counted_by: str
) -> None:
    """ONNX Runtime lists this provider first for each session, and runs all nodes on the CPU."""
    monkeypatch.setitem(devices.BY_NAME, "azure", devices.Device("AzureExecutionProvider"))
    monkeypatch.setattr(session, "DEVICES", (*session.DEVICES, "azure"))
    if counted_by == "profile":
        owner = next(kind for kind in ort.InferenceSession.__mro__ if RECORD in vars(kind))
        monkeypatch.delattr(owner, RECORD)
    with pytest.raises(DeviceError, match=r"AzureExecutionProvider runs none of the \d+ nodes of .*rgb.onnx"):
        open_model(models / "rgb.onnx", device="azure")


def test_bound_memory_gives_the_same_predictions(models: Path) -> None:
    """Batches of several sizes, in several threads, with an output of its own for strangers."""
    pictures = [*np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), np.uint8)]
    bound = Classifier(models / "rgb.onnx", device="cpu", device_options={"io_binding": "on"})
    plain = Classifier(models / "rgb.onnx", device="cpu")
    assert bound.model.bound is not None
    assert plain.model.bound is None
    for classifier in (bound, copy.deepcopy(bound)):
        assert classifier.model.bound is not None
        for size, workers in ((8, 1), (5, 3), (37, 1), (1, 2), (6, 2), (8, 1)):
            found = list(classifier.predict_many(pictures, batch_size=size, workers=workers))
            assert found == list(plain.predict_many(pictures, batch_size=size, workers=workers))
    first = bound.probabilities(np.stack(pictures[:8]))
    kept = first.copy()
    bound.probabilities(np.stack(pictures[8:16]))
    np.testing.assert_array_equal(first, kept)
    options = {"device": "cpu", "device_options": {"io_binding": "on"}}
    strange = open_model(models / "optional.onnx", outputs=["strangeness"], **options)  # type: ignore[arg-type]
    assert strange.bound is not None
    batch = np.stack(pictures)
    outputs = ["strangeness", "probabilities"]
    for ours, theirs in zip(
        strange.bound.run(outputs, batch), strange.session.run(outputs, {"image": batch}), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_options_without_effect_are_refused(models: Path) -> None:
    for device, options, text in (
        ("auto", {"device_id": "1"}, "no effect with the device auto: device_id"),
        ("cpu", {"device_id": "1"}, "no effect with the device cpu: device_id"),
        ("cpu", {"io_binding": "yes"}, "io_binding is on or off, not 'yes'"),
    ):
        with pytest.raises(InputError, match=text):
            Classifier(models / "rgb.onnx", device=device, device_options=options)


def test_the_command_takes_options_of_the_device(
    tmp_path: Path, models: Path, cli: Callable[..., object], refused: Refused, picture: Callable[..., Path]
) -> None:
    model, option = ("--model", models / "rgb.onnx"), ("--device-option", "io_binding=on")
    picture(tmp_path / "a.png", "red")
    cli("a.png", *model, "--device", "cpu", *option, "--output", "rows")
    assert "'io_binding' is not KEY=VALUE" in refused("--info", *model, "--device-option", "io_binding")
    assert "no effect with the device auto: io_binding" in refused("--info", *model, *option)
    assert "no effect with --judge: --device-option" in refused("--judge", models / "rgb.onnx", *option)


def test_latency_is_measured_with_the_options(tmp_path: Path, models: Path, picture: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no effect with the device cpu: a"):
        latency.measure(
            models / "rgb.onnx", [picture(tmp_path / "a.png", "red")], device="cpu", device_options={"a": "1"}
        )


def test_info_counts_the_nodes_of_each_provider(models: Path) -> None:
    from cnn_infer.command.info import facts

    classifier = Classifier(models / "rgb.onnx", device="cpu")
    assert "device" not in dict(facts(classifier))
    model = replace(classifier.model, nodes={"OpenVINOExecutionProvider": 7, "CPUExecutionProvider": 1})
    line = dict(facts(Classifier(model)))["device"]
    assert line == "OpenVINOExecutionProvider: 7 nodes, CPUExecutionProvider: 1 node"


def test_proven_integers_are_those_of_the_cpu(
    rgb: Classifier, with_metadata: Callable[[str, str, str], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    spec = json.loads(rgb.spec.to_json())
    proof = {"target": "any", "integers": {"proven": True}}
    spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
    model = open_model(with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec)), device="cpu")
    for device, told in (("cpu", False), ("openvino", True)):
        classifier = Classifier(replace(model, device=device))
        assert proves_integers(classifier) is not told
        verify_model(classifier)
        assert ("the same integers on every picture are proven for the CPU" in capsys.readouterr().err) is told
