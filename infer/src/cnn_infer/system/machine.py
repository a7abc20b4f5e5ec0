"""This machine: processor, instruction set, and how many processors this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

NO_LIMIT = 1 << 60
"""Version 1 of control groups writes a number above this, in bytes, where there is no limit of memory."""


def usable_cpus() -> int:
    """Return how many processors this process may use, at least 1.

    Limits are the CPU affinity and the quota of the control group (cgroup v1 and v2).
    """
    available, quota = len(allowed_cpus()), cgroup_quota()
    return max(1, min(available, int(quota)) if quota else available)


def allowed_cpus() -> frozenset[int]:
    """Return the numbers of the processors that the CPU affinity of this process allows: all if it is not known."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux, or a sandbox denies the call
        return frozenset(range(os.cpu_count() or 1))


def cgroup_quota() -> float | None:
    """Return the smallest quota of this process's control group and its parents, in processors; None without one."""
    quotas = [quota for folder in _cgroups("cpu") if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Return the smallest limit of memory of this process's control group and its parents, in bytes; None without."""
    limits = []
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            with suppress(OSError, ValueError):  # no such file, or the text max
                limits.append(int((folder / name).read_text()))
    return min((limit for limit in limits if limit < NO_LIMIT), default=None)


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for a controller, each followed by its parents."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            root = Path("/sys/fs/cgroup", controller if controllers else "")
            # in a container this may be a path on the host that does not exist; the root is the container's own group
            inner = root / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _quota_of(group: Path) -> float | None:
    """Return the quota of one control group, in processors; None without one."""
    try:
        limit, period = (group / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            limit = (group / "cpu.cfs_quota_us").read_text()  # version 1
            period = (group / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    return None if limit == "max" or int(limit) <= 0 else int(limit) / int(period)


@cache
def _cpuinfo() -> dict[str, str]:
    """Return the entries of the first processor in /proc/cpuinfo; empty on macOS and Windows."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


@cache
def cpu_name() -> str:
    """Return the name of the processor, with family and model on Linux; if unknown, the architecture."""
    if platform.system() == "Darwin":
        import subprocess

        found = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or platform.machine()
    info = _cpuinfo()
    model = info.get("model name") or platform.processor() or platform.machine()
    family = f" (family {info['cpu family']}, model {info['model']})" if "cpu family" in info else ""
    return model + family


@cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction-set flags of the processor, with Linux's names; empty on macOS and Windows."""
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


UNNAMED = "this system does not name the instructions of the processor"


def names_instructions() -> bool:
    """Whether :func:`instruction_set` is known: of x86 processors, Windows and macOS do not say it."""
    return bool(cpu_flags()) or instruction_set() != "generic"


@cache
def instruction_set() -> str:
    """Return the best instruction set for int8 on this machine.

    It is ``avx512_vnni``, ``avx_vnni``, ``avx2``, ``neon_dotprod``, ``neon`` or ``generic``. Sums of int8 products are
    exact with the dot-product instructions (``vnni``, ``dotprod``) and may saturate with ``avx2``. It is ``generic``
    too where the system does not name the instructions: see :func:`names_instructions`.
    """
    flags = cpu_flags()
    for name in ("avx512_vnni", "avx_vnni", "avx2"):
        if name in flags:
            return name
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "neon_dotprod" if "asimddp" in flags or platform.system() == "Darwin" else "neon"
    return "generic"


def description() -> str:
    """Return one line for reports: processor, usable processors, instruction set, operating system."""
    return f"{cpu_name()}, {usable_cpus()} cores, {instruction_set()}, {platform.system()} {platform.machine()}"
