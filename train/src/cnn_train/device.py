"""The device and the arithmetic that training runs on. Decided by what the machine has, and always said."""

from __future__ import annotations

import ctypes
import os
import sys

import torch
from cnn_infer.system import machine

from cnn_train import distributed
from cnn_train.errors import ConfigError


def pick_device(name: str) -> tuple[torch.device, str]:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``mps``, and why, in words.

    Raises:
        ConfigError: the device asked for does not come up; it is never replaced in silence.
    """
    local = int(os.environ["LOCAL_RANK"]) if distributed.world_size() > 1 else 0
    if name in ("auto", "cuda") and 0 < torch.cuda.device_count() <= local:
        raise ConfigError(
            f"process {local + 1} of this machine has no card of its own: start {torch.cuda.device_count()} "
            "with --nproc-per-node, or pass --device cpu"
        )
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"CUDA is available: {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's Metal is available"
        return torch.device("cpu"), "no CUDA and no Metal here"
    if name == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        reason = "no usable NVIDIA driver or card was found" if built else "this PyTorch was built without CUDA"
        raise ConfigError(f"--device cuda does not come up: {reason}; pass --device cpu to train on the processor")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("--device mps does not come up: it needs macOS on Apple silicon; pass --device cpu")
    return torch.device(name), "asked for"


def pick_precision(name: str, device: torch.device) -> tuple[str, torch.dtype]:
    """The name and the type that convolutions compute in for ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    ``auto`` is bf16 where the processor's flags or the card say that it has bf16 arithmetic, fp16 on older
    CUDA cards, else fp32.

    Raises:
        ConfigError: fp16 was asked for on the CPU, where it has no range to train in.
    """
    if name == "fp16" and device.type != "cuda":
        raise ConfigError(f"--precision fp16 needs --device cuda; on {device.type} take bf16 or fp32")
    if name == "auto":
        if device.type == "cuda":
            name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        else:
            has_bf16 = not machine.cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
            name = "bf16" if device.type == "cpu" and has_bf16 else "fp32"
    return name, {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def keep_freed_memory() -> None:
    """Let glibc keep large blocks of memory that are freed, instead of giving them back to the system.

    Every step frees and takes hundreds of megabytes; clearing their pages anew took a tenth of its time. Other
    systems' allocators are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)
