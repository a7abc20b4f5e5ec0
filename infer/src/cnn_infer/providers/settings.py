"""Options of the execution providers: those of the user, and defaults that keep the exported model's numbers.

A faster default that rounds (bfloat16 in OpenVINO, TF32 in CUDA) would break the agreement with the export that
``--verify`` checks, so it is off unless it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cnn_infer.providers.session import DEVICE_TYPE, IO_BINDING


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
            defaults |= {DEVICE_TYPE: kind, "num_of_threads": str(threads)}
            if kind != "NPU" and "load_config" not in given:
                defaults["precision"] = "FP32"
    options = defaults | dict(given)
    options.pop(IO_BINDING, None)
    if plugin and device == "openvino":
        options.pop(DEVICE_TYPE, None)  # the choice of the plugin's device says it
    return options
