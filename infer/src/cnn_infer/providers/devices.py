"""The devices that ``--device`` names: their execution providers, and the packages that bring them.

A provider is either built into a wheel of ONNX Runtime or comes as a plugin: a package of its own, with a library that
ONNX Runtime 1.23 and later load beside the plain wheel (https://onnxruntime.ai/docs/execution-providers).
"""

from __future__ import annotations

from typing import NamedTuple

PLUGINS_SINCE = (1, 23)
"""The first version of ONNX Runtime with ``add_provider_for_devices``, through which plugins run a model."""


class Plugin(NamedTuple):
    """A package with a plugin library. Its module has ``get_library_path()``.

    Attributes:
        package: The name for pip.
        module: The name for import.
        needs: What the plugin must find on this machine, as text.
    """

    package: str
    module: str
    needs: str


class Device(NamedTuple):
    """A device name and what is behind it.

    Attributes:
        provider: The name of its execution provider.
        wheel: The build of ONNX Runtime that has it, which replaces ``onnxruntime``; None if the plain wheel has it
            where the device exists, or if no wheel has it.
        plugin: The package that brings it as a plugin; None without one.
        note: Where it exists or what it needs, for errors; empty if ``wheel`` or ``plugin`` says enough.
        memory: The name of its memory for tensors that stay on the device, as ``OrtValue`` takes it; None if tensors
            are passed in the memory of the CPU.
    """

    provider: str
    wheel: str | None = None
    plugin: Plugin | None = None
    note: str = ""
    memory: str | None = None


GPU = "cnn-infer[gpu]"
"""The extra with the build for CUDA."""

BY_NAME = {
    "cpu": Device("CPUExecutionProvider"),
    "cuda": Device("CUDAExecutionProvider", GPU, memory="cuda"),
    "tensorrt": Device("TensorrtExecutionProvider", GPU, note="it needs the libraries of TensorRT too", memory="cuda"),
    "tensorrt-rtx": Device(
        "NvTensorRTRTXExecutionProvider",
        plugin=Plugin(
            "onnxruntime-ep-nv-tensorrt-rtx", "onnxruntime_ep_nv_tensorrt_rtx", "an NVIDIA RTX GPU with its driver"
        ),
    ),
    "openvino": Device(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino",
        Plugin("onnxruntime-ep-openvino", "onnxruntime_ep_openvino", "an Intel processor, GPU or NPU"),
        "on processors of other makers install onnxruntime-openvino in an environment of its own",
    ),
    "qnn": Device("QNNExecutionProvider", plugin=Plugin("onnxruntime-qnn", "onnxruntime_qnn", "a Qualcomm processor")),
    "webgpu": Device(
        "WebGpuExecutionProvider",
        "onnxruntime-webgpu",
        Plugin(
            "onnxruntime-ep-webgpu",
            "onnxruntime_ep_webgpu",
            "a GPU with its driver, on Linux also the Vulkan loader (libvulkan.so.1)",
        ),
    ),
    "directml": Device("DmlExecutionProvider", "onnxruntime-directml", note="Windows only"),
    "rocm": Device("MIGraphXExecutionProvider", "onnxruntime-migraphx"),
    "cann": Device("CANNExecutionProvider", "onnxruntime-cann"),
    "coreml": Device("CoreMLExecutionProvider", note="macOS only, where the plain wheel has it"),
    "nnapi": Device("NnapiExecutionProvider", note="Android only: no wheel has it, build ONNX Runtime for it"),
    "xnnpack": Device("XnnpackExecutionProvider", note="no wheel has it: build ONNX Runtime with --use_xnnpack"),
}
"""Each device name, in the order of the help."""

DEVICES = ("auto", *BY_NAME)
"""The device names that :func:`cnn_infer.open_model` accepts."""

CPU = BY_NAME["cpu"].provider
CUDA = BY_NAME["cuda"].provider


def missing(name: str, available: tuple[str, ...]) -> str:
    """Return one line: the device is not there, and how to get it.

    Args:
        name: A device name.
        available: The names of the providers that it has.
    """
    device = BY_NAME[name]
    have = ", ".join(key for key, value in BY_NAME.items() if value.provider in available)
    ways = []
    if device.plugin is not None:
        ways.append(f"pip install {device.plugin.package}")
    if device.wheel is not None:
        wheel = f"'{device.wheel}'" if "[" in device.wheel else device.wheel
        ways.append(
            f"pip uninstall -y onnxruntime, then pip install {wheel} (two builds of ONNX Runtime overwrite each other)"
        )
    how = "; ".join([*filter(None, ["; or ".join(ways), device.note])])
    return f"the installed ONNX Runtime has no {device.provider} (it has {have}): {how}"
