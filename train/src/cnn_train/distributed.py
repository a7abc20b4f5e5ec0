"""One training in several processes, on one card each or on shares of the processor, as ``torchrun`` starts them.

``torchrun --nproc-per-node 2 -m cnn_train ...`` gives the training of one process within noise, not bit for bit: every
process takes its share of each batch, and PyTorch's ``DistributedDataParallel`` averages the gradients, over NCCL on
cards and gloo on processors. Batch norm normalises a share with that share's own mean and variance; its running
statistics are averaged after each step, so all processes hold the same network at all times. Only the first process
writes and speaks. In a process of its own nothing here does anything.
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

PATIENCE = timedelta(days=7)
"""The others wait while the first one decodes a large data set. A process that dies is noticed at once all the same:
its connections close, and torchrun ends the rest."""

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started_together() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


LOST = "another process of this training was lost: go on with cnn-train --resume"


@contextmanager
def joined() -> Iterator[None]:
    """Be one of several processes, where torchrun started several.

    Threads: torchrun sets ``OMP_NUM_THREADS=1`` where nothing is set, so 1 is not taken for a wish, and each process
    gets its share of the processors; another number is kept.

    Raises:
        RunError: another process of the training was lost.
    """
    if not started_together() or engine.is_initialized():
        yield
        return
    local = int(os.environ["LOCAL_RANK"])
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cpus() // int(os.environ["LOCAL_WORLD_SIZE"])))
    both = torch.cuda.is_available() and engine.is_nccl_available()
    engine.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
    given_back = ExitStack()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _interrupt_once))
            # not given back where this fails: what is told to end then is about to say why, and to end
            given_back.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _told_to_end))
        if rank() > 0:
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, engine.DistError) or "gloo" in str(error):
                raise RunError(LOST) from error
            raise
    # only at a good end: where this process failed, the others are to notice by its exit, after it has spoken
    engine.destroy_process_group()
    given_back.close()


def _told_to_end(_number: int, _frame: FrameType | None) -> None:
    """torchrun ends the others where one is lost, perhaps before they notice themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # who has noticed is about to say so
    if not isinstance(sys.exception(), (RunError, RuntimeError)):
        raise RunError(LOST)


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Ctrl-C may come from the terminal and from torchrun; the second one must not cut short what the first says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def first_to_fail() -> bool:
    """Whether no other process of this training has asked this before: the one that may say what went wrong."""
    try:
        store = engine.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
        )
        asked: int = store.add(f"cnn_train/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1)
        return asked == 1
    except RuntimeError:  # the store went with the first process
        return os.environ["RANK"] == "0"


def size() -> int:
    """The number of processes."""
    return engine.get_world_size() if engine.is_available() and engine.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return engine.get_rank() if size() > 1 else 0


def leads() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if size() > 1:
        engine.barrier()


def of_first(compute: Callable[[], Result]) -> Result:
    """What ``compute`` gives the first process, in all of them."""
    results = [compute() if leads() else None]
    if size() > 1:
        engine.broadcast_object_list(results, src=0)
    result: Result = results[0]  # type: ignore[assignment]
    return result


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process through the block, then the others, which find done what it did: downloads, the cache."""
    if not leads():
        wait()
    yield
    if leads():
        wait()


def share(count: int) -> slice:
    """This process's part of ``count`` things. Parts are disjoint, in order, and of equal length within one."""
    return slice(rank() * count // size(), (rank() + 1) * count // size())


def gathered(own: Tensor) -> Tensor:
    """The rows of all processes, in their order, in each of them."""
    if size() == 1:
        return own
    parts: list[Tensor] = [own] * size()
    engine.all_gather_object(parts, own)
    return torch.cat(parts)


def summed(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in each of them; the tensor itself is changed."""
    if size() > 1:
        engine.all_reduce(value)
    return value


def parallel(network: nn.Module) -> nn.Module:
    """The network as a step of training calls it: its gradients become means over the processes."""
    if size() == 1:
        return network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the argument's newer name is not known to older releases
        return DistributedDataParallel(network, broadcast_buffers=False)


def average_statistics(tensors: Iterable[Tensor]) -> None:
    """Replace running statistics, in place, by their means over the processes; whole numbers are equal anyway."""
    if size() == 1:
        return
    moving = [tensor for tensor in tensors if tensor.is_floating_point()]
    if moving:
        mean = summed(torch.cat([tensor.flatten() for tensor in moving])) / size()
        for tensor, part in zip(moving, torch.split(mean, [tensor.numel() for tensor in moving]), strict=True):
            tensor.copy_(part.view_as(tensor))
