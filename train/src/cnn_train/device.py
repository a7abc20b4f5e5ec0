"""The device and the number format that training computes with. Nothing that was asked for is replaced silently."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass

import torch
from cnn_infer.system import machine

from cnn_train import distributed
from cnn_train.errors import ConfigError


@dataclass(frozen=True)
class Compute:
    """What a training computes with.

    Attributes:
        device: The device.
        reason: Why this device, in words.
        precision: ``fp32``, ``bf16`` or ``fp16``: the number format of the convolutions.
        dtype: The same as a PyTorch type.
    """

    device: torch.device
    reason: str
    precision: str
    dtype: torch.dtype


def pick_compute(device: str, precision: str) -> Compute:
    """Choose device and number format; arguments and errors as for :func:`pick_device` and :func:`pick_precision`."""
    chosen, reason = pick_device(device)
    return Compute(chosen, reason, *pick_precision(precision, chosen))


def pick_device(name: str) -> tuple[torch.device, str]:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``mps``, and the reason in words.

    Raises:
        ConfigError: the device that was asked for is not available.
    """
    local = int(os.environ["LOCAL_RANK"]) if distributed.world_size() > 1 else 0
    if name in ("auto", "cuda") and 0 < torch.cuda.device_count() <= local:
        raise ConfigError(
            f"process {local + 1} of this machine has no GPU of its own: start {torch.cuda.device_count()} "
            "with --nproc-per-node, or pass --device cpu"
        )
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"CUDA is available: {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's Metal is available"
        return torch.device("cpu"), "neither CUDA nor Metal is available"
    if problem := unavailable(name):
        raise ConfigError(f"{problem}; pass --device cpu to train on the CPU")
    return torch.device(name), "as requested"


def unavailable(name: str) -> str | None:
    """Say why this machine lacks a device, ``cpu``, ``cuda`` or ``mps``; return None if it has it."""
    if name == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        reason = "no usable NVIDIA driver or GPU was found" if built else "this PyTorch was built without CUDA"
        return f"--device cuda is not available: {reason}"
    if name == "mps" and not torch.backends.mps.is_available():
        return "--device mps is not available: it needs macOS on Apple silicon"
    return None


def pick_precision(name: str, device: torch.device) -> tuple[str, torch.dtype]:
    """Return name and PyTorch type of the number format for ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 if the CPU flags or the GPU report bf16 arithmetic, fp16 on older CUDA GPUs, else fp32.

    Raises:
        ConfigError: fp16 was asked for on another device than CUDA, where training in fp16 is not supported.
    """
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision fp16 needs --device cuda; on {device.type} pass bf16 or fp32")
    if name == "auto":
        if device.type == "cuda":
            name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            has_bf16 = not machine.cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
            name = "bf16" if device.type == "cpu" and has_bf16 else "fp32"
    return name, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def keep_freed_memory() -> None:
    """Make glibc keep large blocks of freed memory instead of returning them to the system.

    Every step frees and allocates hundreds of megabytes. Clearing newly mapped pages took a tenth of the time of a
    step. Nothing changes on other systems.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # from malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)
