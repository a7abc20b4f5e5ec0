"""One training in several processes, as ``torchrun`` starts them: one process per GPU, or several that share the CPU.

``torchrun --nproc-per-node 2 -m cnn_train ...`` gives the same accuracy as one process within noise, but not the same
weights bit for bit. Each process computes on its share of every batch, and PyTorch's ``DistributedDataParallel``
averages the gradients, over NCCL on GPUs and gloo on CPUs. Batch norm normalises each share with the mean and variance
of that share. Its running statistics are averaged after each step, so all processes hold the same network at all
times. Only the main process (rank 0) writes files and prints. Without ``torchrun`` every function in this module is
trivial: one process with rank 0.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from datetime import timedelta
from types import FrameType
from typing import TypeVar

import torch
from cnn_infer.system.machine import usable_cpus
from torch import Tensor, distributed as engine, nn
from torch.nn.parallel import DistributedDataParallel

from cnn_train.errors import RunError

Result = TypeVar("Result")

TIMEOUT = timedelta(days=7)
"""Limit of every collective operation. It is long because the other processes wait while the main process decodes a
large data set. A process that dies is noticed at once anyway: its connections close and torchrun ends the others."""

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

LOST = "another process of this training was lost: continue with cnn-train --resume"


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group if torchrun started several processes; otherwise do nothing.

    Threads: torchrun sets ``OMP_NUM_THREADS=1`` if the user sets nothing. So 1 is treated as not set, and each process
    gets its share of the CPUs. Any other number is kept.

    Raises:
        RunError: another process of the training was lost.
    """
    if not launched_by_torchrun() or engine.is_initialized():
        yield
        return
    local = int(os.environ["LOCAL_RANK"])
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cpus() // int(os.environ["LOCAL_WORLD_SIZE"])))
    both = torch.cuda.is_available() and engine.is_nccl_available()
    engine.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=TIMEOUT)
    restored_on_success = ExitStack()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _interrupt_once))
            # stays installed after a failure: the process is about to print its error and exit
            previous = signal.signal(signal.SIGTERM, _terminated_by_torchrun)
            restored_on_success.callback(signal.signal, signal.SIGTERM, previous)
        if rank() > 0:
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, engine.DistError) or "gloo" in str(error):
                raise RunError(LOST) from error
            raise
    # only after success: after a failure the others notice that this process exits, once it has printed its error
    engine.destroy_process_group()
    restored_on_success.close()


def _terminated_by_torchrun(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM: torchrun ends all processes when one is lost, perhaps before they notice it themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # an error that is already being handled is the better message
    if not isinstance(sys.exception(), (RunError, RuntimeError)):
        raise RunError(LOST)


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGINT. Ctrl-C may arrive twice, from the terminal and from torchrun; the second must not cut off the
    message that the first one prints.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def first_to_report() -> bool:
    """Whether this process is the first of the training to report an error. Only that one prints it."""
    try:
        store = engine.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
        )
        asked: int = store.add(f"cnn_train/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1)
        return asked == 1
    except RuntimeError:  # the store ended with the main process
        return os.environ["RANK"] == "0"


def world_size() -> int:
    """The number of processes."""
    return engine.get_world_size() if engine.is_available() and engine.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return engine.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes have called this."""
    if world_size() > 1:
        engine.barrier()


def compute_on_main(compute: Callable[[], Result]) -> Result:
    """Call ``compute`` in the main process only; return its result in all processes."""
    results = [compute() if is_main_process() else None]
    if world_size() > 1:
        engine.broadcast_object_list(results, src=0)
    result: Result = results[0]  # type: ignore[assignment]
    return result


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, then in the others, which find its downloads and cache entries."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def shard(count: int) -> slice:
    """This process's part of ``count`` items. The parts are disjoint, in order, and differ in length by at most 1."""
    return slice(rank() * count // world_size(), (rank() + 1) * count // world_size())


def all_gather(own: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks; return them in every process."""
    if world_size() == 1:
        return own
    parts: list[Tensor] = [own] * world_size()
    engine.all_gather_object(parts, own)
    return torch.cat(parts)


def all_reduce(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place; return it."""
    if world_size() > 1:
        engine.all_reduce(value)
    return value


def data_parallel(network: nn.Module) -> nn.Module:
    """Wrap a network so that backward averages its gradients over the processes."""
    if world_size() == 1:
        return network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # older releases do not know the argument's new name
        return DistributedDataParallel(network, broadcast_buffers=False)


def average_statistics(tensors: Iterable[Tensor]) -> None:
    """Replace running statistics, in place, by their means over the processes. Integer counters are equal anyway."""
    if world_size() == 1:
        return
    moving = [tensor for tensor in tensors if tensor.is_floating_point()]
    if moving:
        mean = all_reduce(torch.cat([tensor.flatten() for tensor in moving])) / world_size()
        for tensor, part in zip(moving, torch.split(mean, [tensor.numel() for tensor in moving]), strict=True):
            tensor.copy_(part.view_as(tensor))
