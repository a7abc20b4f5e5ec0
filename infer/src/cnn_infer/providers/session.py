"""Open an ONNX Runtime session on a device, and prove which provider runs how many nodes of the model."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_infer.arguments import check_count
from cnn_infer.errors import DeviceError, InputError, ModelError
from cnn_infer.providers.devices import BY_NAME, CPU, CUDA, DEVICES, missing

if TYPE_CHECKING:
    import onnxruntime

    from cnn_infer.providers.binding import BoundRunner

UNKNOWN_OPTION = re.compile(r"(?:Invalid OpenVINO EP option: |Unknown provider option: \"?)([\w.]+)")
"""The part of ONNX Runtime's errors that names an option which a provider does not know."""

CPU_NODES = ("fallback to CPU EP has been explicitly disabled", "disabled fallback to the CPU EP")
"""Parts of ONNX Runtime's errors if nodes are left to the CPU, or all of them, and the session forbids that."""

DEVICE_TYPE = "device_type"
"""OpenVINO's option for the kind of device: CPU, GPU or NPU."""

IO_BINDING = "io_binding"
"""An option of this package for every device: ``on`` or ``off``."""

LONGEST = 300
"""Characters of an error of ONNX Runtime in a message: its start and, as the reason often comes last, its end."""


class Opened(NamedTuple):
    """An open session.

    Attributes:
        session: The ONNX Runtime session.
        device: The device name.
        chosen: Why it was chosen, and how many nodes run on the CPU instead, as text.
        nodes: How many nodes of the model each provider runs. Empty on the CPU, where there is no other, and if an
            older ONNX Runtime proves only that the provider runs all of them.
        options: The options for the device that were given.
    """

    session: onnxruntime.InferenceSession
    device: str
    chosen: str
    nodes: Mapping[str, int]
    options: Mapping[str, str]


def open_session(
    ort: ModuleType, name: str, data: bytes, device: str, threads: int, options: Mapping[str, str]
) -> Opened:
    """Open a session on a device. Nothing falls back silently: what the CPU runs instead is counted.

    Args:
        ort: The module ``onnxruntime``.
        name: The model's name, for messages.
        data: The model.
        device: One of :data:`cnn_infer.providers.devices.DEVICES`. ``auto`` is CUDA if it works, else the CPU.
        threads: CPU threads for each run of the model.
        options: Options of the device: those of its provider, and ``io_binding``.

    Raises:
        InputError: the device is not known, an option has no effect, or ``threads`` is no number of threads.
        DeviceError: the device is not available, or runs no node of the model.
        ModelError: the model is damaged.
    """
    if device not in DEVICES:
        raise InputError(f"unknown device {device!r}: one of {', '.join(DEVICES)}")
    threads = check_count("threads", threads)
    _check_options(device, options)
    if device == "auto":
        return _open_best(ort, name, data, threads)
    if device == "cpu":
        return Opened(_create(ort, name, data, threads), device, "asked for", {}, dict(options))
    return _open_on(ort, name, data, device, threads, options)


def bound_runner(ort: ModuleType, opened: Opened) -> BoundRunner | None:
    """Return what runs a session with its tensors on the device; None where they are in the memory of the CPU.

    Raises:
        DeviceError: the memory of the device cannot be used.
    """
    memory = BY_NAME[opened.device].memory
    if opened.options.get(IO_BINDING, "off" if memory is None else "on") == "off":
        return None
    from cnn_infer.providers.binding import BoundRunner  # most runs are on the CPU

    try:
        return BoundRunner(ort, opened.session, memory or "cpu", int(opened.options.get("device_id", 0)))
    except Exception as error:
        raise DeviceError(f"no memory on {opened.device}: {_one_line(error)}; pass {IO_BINDING}=off") from error


def _check_options(device: str, options: Mapping[str, str]) -> None:
    if device == "auto" and options:
        raise InputError(f"no effect with the device auto: {', '.join(options)} (name the device)")
    if options.get(IO_BINDING, "on") not in ("on", "off"):
        raise InputError(f"{IO_BINDING} is on or off, not {options[IO_BINDING]!r}")
    if device == "cpu" and (others := [key for key in options if key != IO_BINDING]):
        raise InputError(f"no effect with the device cpu: {', '.join(others)}")


def _open_best(ort: ModuleType, name: str, data: bytes, threads: int) -> Opened:
    if CUDA not in ort.get_available_providers():
        chosen = "the installed ONNX Runtime has no CUDA"
        return Opened(_create(ort, name, data, threads), "cpu", chosen, {}, {})
    try:
        found = _open_on(ort, name, data, "cuda", threads, {})
        return Opened(found.session, "cuda", found.chosen.replace("asked for", "CUDA works"), found.nodes, {})
    except DeviceError as error:
        return Opened(_create(ort, name, data, threads), "cpu", str(error), {}, {})


def _open_on(ort: ModuleType, name: str, data: bytes, device: str, threads: int, given: Mapping[str, str]) -> Opened:
    """Open a session on a device that is not the CPU, first so that the CPU may run no node at all."""
    from cnn_infer.providers.plugins import is_installed, loaded_devices, plugin_devices, version_of
    from cnn_infer.providers.settings import NEEDS, provider_options, refused  # most runs are on the CPU

    found, plugin = BY_NAME[device], None
    loaded, available = loaded_devices(ort, found.provider), ort.get_available_providers()
    if loaded or found.provider not in available:  # a plugin that is loaded counts as available too
        if not loaded and (found.plugin is None or not is_installed(found.plugin)):
            raise DeviceError(missing(device, tuple(available)))
        plugin = _select(plugin_devices(ort, device), found.provider, given)
    options = provider_options(device, given, threads=threads, version=version_of(ort), plugin=plugin is not None)
    why = refused(device, given) if plugin is None else ""
    with _log_off(ort) if why else nullcontext():
        try:
            session = _create(ort, name, data, threads, found.provider, options, plugin, why=why or NEEDS)
            return Opened(session, device, "asked for", _counted(session), dict(given))
        except DeviceError as error:
            if not any(text in str(error.__cause__) for text in CPU_NODES):
                raise
            with_cpu_nodes = error
        from tempfile import TemporaryDirectory  # rarely used

        with TemporaryDirectory() as folder:
            session = _create(
                ort, name, data, threads, found.provider, options, plugin, folder=folder, why=why or NEEDS
            )
            nodes = _counted(session) or _profiled(session, name)
    if "NPU" in given.get(DEVICE_TYPE, ""):
        raise with_cpu_nodes  # in this session OpenVINO itself may move the model from the NPU to the CPU
    own, total = nodes.get(found.provider, 0), sum(nodes.values())
    if not own:
        raise DeviceError(f"{found.provider} runs none of the {total} nodes of {name}: pass --device cpu")
    chosen = f"asked for; the CPU runs {total - own} of the {total} nodes, which {found.provider} does not have"
    return Opened(session, device, chosen, nodes, dict(given))


def _select(devices: list[Any], provider: str, given: Mapping[str, str]) -> Any:
    """Return the plugin's device of the kind that was asked for, else its CPU, else its first."""
    kinds = [str(found.ep_metadata.get("ov_device", found.device.type.name)) for found in devices]
    wanted = given.get(DEVICE_TYPE)
    if wanted is None:
        return devices[kinds.index("CPU") if "CPU" in kinds else 0]
    if wanted not in kinds:
        raise DeviceError(f"{provider} has no {DEVICE_TYPE} {wanted} on this machine: it has {', '.join(kinds)}")
    return devices[kinds.index(wanted)]


def _create(
    ort: ModuleType,
    name: str,
    data: bytes,
    threads: int,
    provider: str = CPU,
    given: Mapping[str, str] | None = None,
    plugin: Any = None,
    *,
    folder: str | None = None,
    why: str = "",
) -> onnxruntime.InferenceSession:
    """Create a session. Another provider than the CPU must run all nodes, unless there is a folder for a profile.

    If ONNX Runtime falls back to the CPU, ``why`` is the end of the message.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised: the log would only repeat them
    # a model of bytes may refer to weight files in the working directory: name a folder that cannot hold any
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    providers: list[Any] | None = [provider]
    if provider != CPU:
        providers = [(provider, dict(given or {}))]
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if folder is None:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        else:
            options.enable_profiling = not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
            options.profile_file_prefix = os.path.join(folder, "profile")
            providers.append(CPU)
        if plugin is not None:
            options.add_provider_for_devices([plugin], dict(given or {}))
            providers = None
    try:
        # ONNX Runtime's own fallback prints to standard output, where the rows go
        session = ort.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except Exception as error:
        if "pthread_create failed" in str(error):
            raise ModelError(f"the system does not start {threads} threads to run {name}: choose fewer") from error
        if unknown := UNKNOWN_OPTION.search(str(error)):
            raise InputError(f"{provider} does not know the option {unknown[1]}") from error
        if provider != CPU:
            raise DeviceError(f"{provider} does not come up: {_one_line(error)}") from error
        raise ModelError(
            f"not an ONNX model, or damaged: {name} ({_one_line(error)}); cnn-export writes models"
        ) from error
    if session.get_providers()[0] != provider:
        raise DeviceError(f"{provider} does not come up: {why}")
    session.disable_fallback()
    return session


@contextmanager
def _log_off(ort: ModuleType) -> Iterator[None]:
    """Switch the log of ONNX Runtime off that no session has: the error that follows says the same in one line."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)  # its default: warnings


def _counted(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Return how many nodes each provider got, from ONNX Runtime's own record; empty before 1.24, which has none."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _profiled(session: onnxruntime.InferenceSession, name: str) -> dict[str, int]:
    """Return how many nodes each provider ran on one black picture, from the profile of an older ONNX Runtime."""
    feed = session.get_inputs()[0]
    try:
        session.run(None, {feed.name: np.zeros((1, *feed.shape[1:]), np.uint8)})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return dict(Counter(event["args"]["provider"] for event in events if event.get("args", {}).get("provider")))
    except Exception as error:
        raise ModelError(f"the model does not run: {name} ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    """Return the error's text without line breaks, shortened in the middle."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 3]} ... {text[-LONGEST * 2 // 3 :]}"
