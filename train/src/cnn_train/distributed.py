"""One training in several processes, as ``torchrun`` starts them: one process per GPU, or several that share the CPU.

The processes may be on several machines, the nodes. ``torchrun --nproc-per-node 2 -m cnn_train ...`` gives the same
accuracy as one process within noise, but not the same weights bit for bit. Each process computes on its share of every
batch, and PyTorch's ``DistributedDataParallel`` averages the gradients, over NCCL on GPUs and gloo on CPUs. Batch norm
normalises each share with the mean and variance of that share. Its running statistics are averaged after each step, so
all processes hold the same network at all times. Only the main process (rank 0) writes the run folder and prints.
Without ``torchrun`` every function in this module is trivial: one process with rank 0.
"""

from __future__ import annotations

import os
import signal
import socket
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

from cnn_train.errors import ConfigError, RunError

Result = TypeVar("Result")

PATIENT = timedelta(days=7)
"""Limit of a collective operation on one node, and of :func:`main_process_first` on all: the other processes wait while
the main process decodes a large data set. A process that dies is noticed at once anyway: its connections close."""

NODES_TIMEOUT = timedelta(minutes=30)
"""Limit of all other collective operations where there are several nodes: connections to a machine that loses its power
do not close."""

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

LOST = "another process of this training was lost: continue with cnn-train --resume"
RESTARTED = "a process of this training was lost, or a node joined: torchrun continues from the last checkpoint"

SEPARATE_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""The environment variable of torchrun's agents that gives each restart a store of its own. Without it, restarted
processes read the addresses of those before them from the store and wait forever, and a node that joins later waits
for an address that is published once (seen with PyTorch 2.14; https://github.com/pytorch/pytorch/issues/135712)."""

_patient_group: engine.ProcessGroup | None = None


def launched_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def job_id() -> str | None:
    """The ``--rdzv-id`` of torchrun: equal on all nodes and after a restart. None without torchrun or without an id."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def nodes() -> int:
    """The number of nodes, which torchrun may change when it restarts the training."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


def _check_launch() -> None:
    """Raise :class:`ConfigError` if a restart by torchrun could not find its training again, or would wait forever."""
    if (nodes() > 1 or _restarts() > 0) and "TORCHELASTIC_RUN_ID" in os.environ and job_id() is None:
        raise ConfigError(
            "torchrun has no name for this training: pass --rdzv-id NAME to it, the same on all nodes, so that a "
            "restart finds the run folder"
        )
    if _restarts() > 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise ConfigError(
            f"torchrun --max-restarts needs --rdzv-backend c10d, and {SEPARATE_STORE}=1 in its environment"
        )


def _lost() -> str:
    done = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return RESTARTED if done < _restarts() else LOST


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group if torchrun started several processes; otherwise do nothing.

    Threads: torchrun sets ``OMP_NUM_THREADS=1`` if the user sets nothing. So 1 is treated as not set, and each process
    gets its share of the CPUs. Any other number is kept.

    Raises:
        ConfigError: torchrun lacks an option that a restart needs.
        RunError: another process of the training was lost.
    """
    global _patient_group
    if engine.is_initialized():
        yield
        return
    _check_launch()
    if not launched_by_torchrun():
        yield
        return
    local = int(os.environ["LOCAL_RANK"])
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cpus() // int(os.environ["LOCAL_WORLD_SIZE"])))
    both = torch.cuda.is_available() and engine.is_nccl_available()
    restored_on_success = ExitStack()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _interrupt_once))
            # stays installed after a failure: the process is about to print its error and exit
            previous = signal.signal(signal.SIGTERM, _terminated_by_torchrun)
            restored_on_success.callback(signal.signal, signal.SIGTERM, previous)
        if os.environ["RANK"] != "0":
            stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        try:
            limit = PATIENT if nodes() == 1 else NODES_TIMEOUT
            engine.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=limit)
            _patient_group = engine.new_group(backend="gloo", timeout=PATIENT)  # type: ignore[assignment]
            yield
        except RuntimeError as error:
            if isinstance(error, engine.DistError) or "gloo" in str(error):
                raise RunError(_lost()) from error
            raise
    # only after success: after a failure the others notice that this process exits, once it has printed its error
    engine.destroy_process_group()
    restored_on_success.close()


def _terminated_by_torchrun(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM: torchrun ends all processes when one is lost or a node joins, perhaps before they notice it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # an error that is already being handled is the better message
    if not isinstance(sys.exception(), (RunError, RuntimeError)):
        raise RunError(_lost())


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGINT. Ctrl-C may arrive twice, from the terminal and from torchrun; the second must not cut off the
    message that the first one prints.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def first_to_report() -> bool:
    """Whether this process is the first one on its node to report an error. Only that one prints it."""
    try:
        store = engine.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
        )
        attempt = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{os.environ.get('GROUP_RANK', 0)}"
        asked: int = store.add(f"cnn_train/failed/{attempt}", 1)
        return asked == 1
    except RuntimeError:  # the store ended with the main process
        return os.environ["LOCAL_RANK"] == "0"


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


def is_first_on_node() -> bool:
    """Whether this is the first process of its node: the main process is one of them."""
    return world_size() == 1 or os.environ["LOCAL_RANK"] == "0"


def node_name() -> str:
    """Number and name of this node, for messages."""
    return f"node {os.environ.get('GROUP_RANK', '0')} ({socket.gethostname()})"


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in the main process, then in the first process of each other node, then in all others.

    So each process finds the downloads and cache entries of the one before, on a shared disk and on that of its node.
    """
    turn = 0 if is_main_process() else 1 if is_first_on_node() else 2
    for now in range(3):
        if now == turn:
            yield
        if world_size() > 1 and now < 2:
            engine.barrier(_patient_group)


def differing_nodes(value: object) -> list[str]:
    """The names of the nodes on which ``value`` is not equal to that of the main process; the same on all."""
    if world_size() == 1:
        return []
    found: list[tuple[str, object]] = [("", None)] * world_size()
    engine.all_gather_object(found, (node_name(), value))
    return sorted({name for name, other in found if other != found[0][1]})


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
