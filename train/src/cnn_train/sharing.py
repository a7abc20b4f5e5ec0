"""The number of PyTorch's CPU threads: fewer while other programs use the processor.

PyTorch's OpenMP threads wait for each other by spinning. Alone that is fastest. Beside another busy program, threads
that spin take the time of threads that work: two trainings on two processors then have an eighth of their speed each.
With one thread for each processor that the others leave free, they have half of it. Shorter spinning costs more alone
(``benchmarks/neighbours.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from cnn_infer.system.machine import allowed_cpus, usable_cpus

from cnn_train import distributed

PERIOD = 1.0
"""Seconds between two measurements of the load."""


class Clock(NamedTuple):
    """Seconds of wall time, of the usable processors with work of any program, and of this process's work."""

    wall: float
    busy: float
    own: float


@contextmanager
def shared_threads(device: torch.device, on_fewer: Callable[[int, int], None]) -> Iterator[Callable[[], None]]:
    """Adapt the number of threads to the load while the block runs, and restore it afterwards.

    The number is fixed on a GPU, under torchrun, with ``OMP_NUM_THREADS``, and where ``/proc/stat`` does not tell the
    load. Programs that run at a lower priority (``nice``) do not count as load.

    Args:
        device: The device of the training.
        on_fewer: Called with the number of threads and its maximum, the first time that there are fewer.

    Yields:
        A function to call after each step of the training. It measures once in :data:`PERIOD` seconds.
    """
    before = torch.get_num_threads()
    fixed = device.type != "cpu" or distributed.launched_by_torchrun() or "OMP_NUM_THREADS" in os.environ
    most = before if fixed else min(before, usable_cpus())  # PyTorch does not know the quota of a container
    last = None if fixed or most == 1 else _clock()
    told = False

    def adapt() -> None:
        nonlocal last, told
        if last is None or time.perf_counter() - last.wall < PERIOD:
            return
        now = _clock()
        if now is not None:
            threads = threads_beside(last, now, len(allowed_cpus()), most)
            if threads < most and not told:
                told = True
                on_fewer(threads, most)
            torch.set_num_threads(threads)
        last = now

    torch.set_num_threads(most)
    try:
        yield adapt
    finally:
        torch.set_num_threads(before)


def threads_beside(start: Clock, end: Clock, processors: int, most: int) -> int:
    """One thread for each of ``processors`` that other programs left free from ``start`` to ``end``: 1 to ``most``."""
    others = ((end.busy - start.busy) - (end.own - start.own)) / (end.wall - start.wall)
    return max(1, min(most, round(processors - others)))


def _clock() -> Clock | None:
    """Read the clocks; None where the system does not tell how busy its processors are."""
    try:
        # first, because Windows, which has no such file, has no os.nice either
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        usable = {f"cpu{number}" for number in allowed_cpus()}
        # user, nice, system, idle, iowait, irq, softirq, ... in ticks (proc_stat(5))
        counted = (0, 2, 5, 6) if os.nice(0) <= 0 else (0, 1, 2, 5, 6)
        ticks = sum(int(line[1 + field]) for line in lines if line[0] in usable for field in counted)
        busy = ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    own = os.times()
    return Clock(time.perf_counter(), busy, own.user + own.system) if ticks else None
