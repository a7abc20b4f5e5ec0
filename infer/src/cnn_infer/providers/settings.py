"""Options of the execution providers: those of the user, and defaults that keep the exported model's numbers.

A faster default that rounds (bfloat16 in OpenVINO, TF32 in CUDA) would break the agreement with the export that
``--verify`` checks, so it is off unless it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cnn_infer.errors import InputError
from cnn_infer.providers.session import DEVICE_TYPE, IO_BINDING

KINDS = ("CPU", "GPU", "NPU", "AUTO", "HETERO", "MULTI")
"""How the values of OpenVINO's ``device_type`` start."""

NEEDS = "install the driver and the libraries that it needs (for CUDA: CUDA and cuDNN), or pass --device cpu"
"""What to do about a provider that does not come up."""


def refused(device: str, given: Mapping[str, str]) -> str:
    """Return why a build of OpenVINO does not come up with these options; empty if none of them can be the reason.

    ONNX Runtime writes the reason only into its log.
    """
    if device != "openvino":
        return ""
    kind = given.get(DEVICE_TYPE, "CPU")
    others = ", ".join(f"{key}={value}" for key, value in given.items() if key not in (DEVICE_TYPE, IO_BINDING))
    absent = f"{device} has no device {kind} on this machine" if kind != "CPU" else ""
    if not others:
        return absent
    return f"{absent}, or does not accept {others}" if absent else f"{device} does not accept {others}"


def provider_options(
    device: str, given: Mapping[str, str], *, threads: int, version: tuple[int, ...], plugin: bool
) -> dict[str, str]:
    """Return the options for a provider: defaults, then those that were given, which win.

    Args:
        device: A device name.
        given: Options of the provider, as ONNX Runtime documents them.
        threads: CPU threads for each run of the model.
        version: Major and minor version of ONNX Runtime.
        plugin: Whether the provider comes as a plugin: OpenVINO's takes its settings as JSON.

    Raises:
        InputError: OpenVINO has no such kind of device.
    """
    defaults: dict[str, str] = {}
    if device == "cuda":
        # memory for what is asked for: the default doubles the arena each time
        defaults["arena_extend_strategy"] = "kSameAsRequested"
        if version >= (1, 18):
            defaults["use_tf32"] = "0"
    elif device == "tensorrt" and "trt_engine_cache_path" in given:
        defaults["trt_engine_cache_enable"] = "1"
    elif device == "openvino":
        kind = given.get(DEVICE_TYPE, "CPU")
        if plugin:
            settings = {"INFERENCE_PRECISION_HINT": "f32"} if kind != "NPU" else {}
            if kind == "CPU":
                settings["INFERENCE_NUM_THREADS"] = str(threads)
            defaults["load_config"] = json.dumps({kind: settings})
        else:
            if not kind.startswith(KINDS):
                raise InputError(f"{DEVICE_TYPE} is CPU, GPU or NPU, not {kind!r}")
            defaults |= {DEVICE_TYPE: kind, "num_of_threads": str(threads)}
            if kind != "NPU" and "load_config" not in given:
                defaults["precision"] = "FP32"
    options = defaults | dict(given)
    options.pop(IO_BINDING, None)
    if plugin and device == "openvino":
        options.pop(DEVICE_TYPE, None)  # the choice of the plugin's device says it
    return options
