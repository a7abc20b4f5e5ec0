"""Plugin packages: load the library of an execution provider into ONNX Runtime, and the devices that it finds."""

from __future__ import annotations

import importlib
import importlib.util
from threading import Lock
from types import ModuleType
from typing import Any

from cnn_infer.errors import DeviceError
from cnn_infer.providers.devices import BY_NAME, PLUGINS_SINCE, Plugin

_LOCK = Lock()


def is_installed(plugin: Plugin) -> bool:
    """Whether the package of a plugin is installed. It is not imported."""
    return importlib.util.find_spec(plugin.module) is not None


def version_of(ort: ModuleType) -> tuple[int, ...]:
    """Return major and minor version of ONNX Runtime."""
    return tuple(int(part) for part in str(ort.__version__).split(".")[:2])


def plugin_devices(ort: ModuleType, name: str) -> list[Any]:
    """Return the ``OrtEpDevice`` entries that the provider of a device name has on this machine, at least one.

    The library of its plugin is loaded if the provider is not known yet. It stays loaded until the process ends.

    Args:
        ort: The module ``onnxruntime``.
        name: A device name whose provider is not built into this ONNX Runtime.

    Raises:
        DeviceError: ONNX Runtime is too old for plugins, the library does not load, or it finds no device.
    """
    device = BY_NAME[name]
    plugin = device.plugin
    if not hasattr(ort, "get_ep_devices") or version_of(ort) < PLUGINS_SINCE:
        needed = ".".join(map(str, PLUGINS_SINCE))
        raise DeviceError(
            f"plugins such as {plugin.package if plugin else device.provider} need ONNX Runtime {needed} or later, "
            f"{ort.__version__} is installed: pip install -U onnxruntime"
        )
    with _LOCK:
        found = loaded_devices(ort, device.provider)
        if not found and plugin is not None:
            try:
                library = importlib.import_module(plugin.module).get_library_path()
                ort.register_execution_provider_library(plugin.module, library)
            except Exception as error:
                if "already" not in str(error):  # registered, and it found nothing
                    reason = " ".join(str(error).split())[:300]
                    raise DeviceError(f"the plugin {plugin.package} does not load: {reason}") from error
            found = loaded_devices(ort, device.provider)
    if not found:
        needs = "" if plugin is None else f": {plugin.package} needs {plugin.needs}"
        ways = "; ".join(filter(None, [device.note, "--device cpu runs everywhere"]))
        raise DeviceError(f"{device.provider} finds no device on this machine{needs}; {ways}")
    return found


def loaded_devices(ort: ModuleType, provider: str) -> list[Any]:
    """Return the devices of a plugin that is loaded, by this package, the user or the wheel itself (CUDA)."""
    devices = ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else []
    return [found for found in devices if found.ep_name == provider and "library_path" in found.ep_metadata]
