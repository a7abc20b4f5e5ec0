"""Installed packages: versions against what cnn-infer requires, builds that overwrite each other, plugins, extras."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cnn_infer import runtime
from cnn_infer.doctor.findings import Finding
from cnn_infer.providers.devices import BY_NAME, CPU
from cnn_infer.providers.plugins import is_installed
from cnn_infer.providers.probe import DEVICES, RUNTIME, Answer, ask

REQUIRED = ("numpy", "pillow", "simplejpeg", "click", "rich")
"""The packages without which cnn-infer does not start, or not with progress and tables."""

MODULES = ("cnn_infer", "numpy", "PIL", "simplejpeg")
"""Modules that two packages may both have written; for ``onnxruntime`` see :func:`cnn_infer.runtime.conflicts`."""

OPTIONAL = {
    "jinja2": ("report", "web pages (--html)"),
    "pillow-heif": ("heif", "HEIC pictures"),
    "fsspec": ("storage", "pictures in object storage"),
    "ray": ("ray", "runs on a cluster (--ray)"),
}
"""Packages of the extras: the extra, and what it is for."""


def findings() -> Iterator[Finding]:
    """Yield what is found of the packages, ONNX Runtime among them."""
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.python_implementation()}")
    yield _own()
    least = _least()
    for name in REQUIRED:
        yield _package(name, least.get(name))
    yield from _same_module()
    builds = [list(found) for found in runtime.conflicts()]
    yield _builds(builds)
    answer = ask(RUNTIME)
    yield _runtime(answer, least.get("onnxruntime"))
    if answer.value:
        yield _providers(answer)
    yield from _plugins(works=bool(answer.value))
    yield _telemetry()
    for name, (extra, purpose) in OPTIONAL.items():
        yield _optional(name, extra, purpose)


def _own() -> Finding:
    version = _version("cnn-infer")
    if version is None:
        return Finding("cnn-infer", "note", "not installed as a package", "pip install cnn-infer, so that pip knows it")
    return Finding("cnn-infer", "ok", version)


def _least() -> dict[str, str]:
    """Return the lowest version of each package that cnn-infer requires."""
    try:
        required = metadata.requires("cnn-infer") or []
    except metadata.PackageNotFoundError:
        return {}
    found = (re.match(r"([\w.-]+)\s*>=\s*([\d.]+)", entry) for entry in required)
    return {match[1].lower(): match[2] for match in found if match}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _package(name: str, least: str | None) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "error", "not installed", f"pip install {name}")
    if least is not None and _number(version) < _number(least):
        return Finding(name, "error", f"{version}, older than {least}", f"pip install -U {name}")
    return Finding(name, "ok", version)


def _same_module() -> Iterator[Finding]:
    owners = metadata.packages_distributions()
    for module in MODULES:
        packages = sorted(set(owners.get(module, [])))
        if len(packages) > 1:
            advice = f"pip uninstall -y {' '.join(packages)}, then install the one that you want"
            yield Finding(f"module {module}", "error", f"written by {' and '.join(packages)}", advice)


def installed_builds() -> list[str]:
    """Return the installed packages that are builds of ONNX Runtime."""
    return [build for build in runtime.BUILDS if _version(build)]


def _builds(conflicts: list[list[str]]) -> Finding:
    for builds in conflicts:
        advice = f"pip uninstall -y {' '.join(builds)}, then {runtime.INSTALL}"
        return Finding("builds", "error", f"{' and '.join(builds)} overwrite each other", advice)
    installed = [f"{build} {_version(build)}" for build in installed_builds()]
    if len(installed) > 1:  # in different folders
        return Finding("builds", "note", ", ".join(installed), "the first on sys.path is used: uninstall the others")
    return Finding("builds", "ok", installed[0] if installed else "none")


def _runtime(answer: Answer, least: str | None) -> Finding:
    if not answer.value:
        missing = "No module named 'onnxruntime'" in answer.error
        installed = installed_builds()
        again = f"pip install --force-reinstall {' '.join(installed)}, or "
        advice = f"{'' if missing or not installed else again}{runtime.INSTALL}"
        return Finding("onnxruntime", "error", "not installed" if missing else answer.error, advice)
    version, where = answer.value["version"], Path(answer.value["file"]).parent
    if least is not None and _number(version) < _number(least):
        return Finding("onnxruntime", "error", f"{version}, older than {least}", newer())
    return Finding("onnxruntime", "ok", f"{version} in {where}")


def newer() -> str:
    """Return the advice to install a newer version of ONNX Runtime, in the build that is installed."""
    return f"pip install -U {' '.join(installed_builds()) or 'onnxruntime'}"


def _providers(answer: Answer) -> Finding:
    names = {device.provider: name for name, device in BY_NAME.items()}
    found = [names[provider] for provider in answer.value["providers"] if provider in names]
    advice = f"--device {'|'.join(found)}; the name of another device gives the package to install"
    return Finding("providers", "ok" if CPU in answer.value["providers"] else "error", ", ".join(found), advice)


def _plugins(*, works: bool) -> Iterator[Finding]:
    """Yield a finding for each plugin package that is installed, with the devices that it finds on this machine."""
    for name, device in BY_NAME.items():
        if device.plugin is None or not is_installed(device.plugin):
            continue
        package = f"plugin {device.plugin.package}"
        if not works:
            yield Finding(package, "note", "installed; not loaded without ONNX Runtime", "fix onnxruntime first")
            continue
        answer = ask(DEVICES, name)
        if answer.value:
            yield Finding(package, "ok", ", ".join(answer.value), f"--device {name}")
        else:
            reason = answer.error.partition("DeviceError: ")[2] or answer.error
            yield Finding(package, "note", reason, f"pip uninstall {device.plugin.package}, unless it is for later")


def _telemetry() -> Finding:
    value = os.environ.get(runtime.TELEMETRY)
    if value not in (None, "1"):
        advice = f"unset {runtime.TELEMETRY}: cnn-infer switches it off"
        return Finding("telemetry", "note", f"{runtime.TELEMETRY}={value}: ONNX Runtime may send usage data", advice)
    return Finding("telemetry", "ok", "off")


def _optional(name: str, extra: str, purpose: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "note", "not installed", f"for {purpose}: pip install 'cnn-infer[{extra}]'")
    return Finding(name, "ok", f"{version}, for {purpose}")
