"""This machine: processor, instruction set, threads, memory, graphics processors."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cnn_infer.console import quantity
from cnn_infer.doctor.findings import Finding
from cnn_infer.system import machine

EXACT = ("avx512_vnni", "avx_vnni", "neon_dotprod")
"""Instruction sets whose sums of int8 products cannot overflow."""

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve")
"""The flags of Linux that make a difference for a model."""

LITTLE = 512 << 20
"""Less memory than this, in bytes, may be too little for many worker threads and large pictures."""

SECONDS = 20
"""Longest time for an answer of the driver."""


def findings() -> Iterator[Finding]:
    """Yield what is found of this machine."""
    system = f"{platform.system()} {platform.release()}"
    yield Finding("processor", "ok", f"{machine.cpu_name()}, {platform.machine()}, {system}")
    yield _instruction_set()
    yield _threads()
    yield _memory()
    yield _graphics()


def _instruction_set() -> Finding:
    best = machine.instruction_set()
    flags = [flag for flag in FLAGS if flag in machine.cpu_flags()]
    found = f"{best} ({', '.join(flags)})" if flags else best if machine.names_instructions() else machine.UNNAMED
    if best in EXACT:
        return Finding("instruction set", "ok", found, "int8 is exact and fast here: cnn-infer --judge measures it")
    advice = "int8: use files of cnn-export --for any, and cnn-infer --judge to see whether they are faster"
    return Finding("instruction set", "note", found, advice)


def _threads() -> Finding:
    allowed, quota = len(machine.allowed_cpus()), machine.cgroup_quota()
    count = os.cpu_count() or 1
    limits = [f"affinity allows {allowed}"] * (allowed < count)
    limits += [] if quota is None else [f"the control group allows {quota:g}"]
    usable = machine.usable_cpus()
    found = f"{usable} of {quantity(count, 'processor')}" + (f" ({', '.join(limits)})" if limits else "")
    if quota is not None and quota < min(allowed, 1):
        return Finding(
            "threads", "note", found, "raise the quota to 1 processor or more: a picture waits for its share"
        )
    default = f"the default is {quantity(usable, 'worker thread')}; --threads auto measures more"
    return Finding("threads", "ok", found, default)


def _memory() -> Finding:
    limit, total = machine.memory_limit(), _total_memory()
    known = [size for size in (limit, total) if size is not None]
    if not known:
        return Finding("memory", "ok", "not known on this system")
    least = min(known)
    source = "limit of the control group" if least == limit else "of the machine"
    found = f"{least / (1 << 20):,.0f} MiB, {source}"
    if least < LITTLE:
        return Finding("memory", "note", found, "pass fewer --threads and a smaller --batch-size and --max-pixels")
    return Finding("memory", "ok", found)


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _graphics() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        nodes = sorted(path.name for path in Path("/dev/dri").glob("renderD*")) if os.name == "posix" else []
        if nodes:
            advice = "--device openvino (Intel), rocm (AMD) or webgpu may use it; each names the package to install"
            return Finding("gpu", "note", f"no nvidia-smi; graphics devices: {', '.join(nodes)}", advice)
        advice = "the default, --device auto, uses the CPU; for a GPU of NVIDIA install its driver"
        return Finding("gpu", "ok", "no nvidia-smi, no graphics device: no GPU is seen", advice)
    query = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
        lines = (done.stdout if done.returncode == 0 else "").strip().splitlines()
        reason = (done.stdout + done.stderr).strip().splitlines()[:1]
    except (OSError, subprocess.TimeoutExpired) as error:
        lines, reason = [], [str(error)]
    if not lines:
        text = " ".join(["nvidia-smi does not answer:", *reason])
        return Finding("gpu", "note", text, "repair the driver of NVIDIA before --device cuda")
    return Finding("gpu", "ok", "; ".join(lines), "--device cuda, with pip install 'cnn-infer[gpu]'")
