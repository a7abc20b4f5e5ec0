"""Start other processes, and measure their time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """A command that succeeded.

    Attributes:
        seconds: From start to exit, by the clock.
        processor_seconds: Processor time, in user mode and in the kernel.
        peak_mb: The highest resident memory of its largest process, in MiB, as the kernel reports it.
        disk_mb: What it read from disks rather than from memory, in MiB, as the kernel reports it.
        stdout: What it printed.
    """

    seconds: float
    processor_seconds: float
    peak_mb: float
    disk_mb: float
    stdout: str


def measured(command: list[str], *, stdin: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
    """Run a command and measure it. If it fails, show its errors and exit.

    The peak memory is at least that of this process so far, because the kernel starts to count before the command
    replaces this program (``vfork``). Measure from a small process: see :func:`in_own_process`.

    Args:
        command: The program and its arguments.
        stdin: The file that it reads on standard input.
        env: Its environment; default: that of this process.
    """
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as errors,
        open(stdin or os.devnull) as given,
    ):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=errors, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)  # else Popen would wait for it again
        out.seek(0)
        errors.seek(0)
        if status:
            sys.exit(f"failed: {' '.join(command)}\n{errors.read()}")
        used = usage.ru_utime + usage.ru_stime
        return Finished(seconds, used, usage.ru_maxrss / 1024, usage.ru_inblock / 2048, out.read())


def status_of(process: int | str = "self") -> dict[str, int]:
    """The numbers in /proc/PROCESS/status of Linux by name: sizes in KiB, such as ``RssAnon``, and counts."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    fields = ((name, value.split()) for name, _, value in (line.partition(":") for line in lines))
    return {name: int(values[0]) for name, values in fields if values and values[0].isdigit()}


def run(command: list[str]) -> None:
    """Run a command whose output goes to the terminal. If it fails, exit with its exit code."""
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def run_within(command: list[str], seconds: float) -> int:
    """Run a command whose output goes to the terminal, and return its exit code.

    Args:
        command: The program and its arguments.
        seconds: Time after which it is ended, with all processes that it started.

    Raises:
        subprocess.TimeoutExpired: it was ended.
    """
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except BaseException:  # also Ctrl-C, which does not reach a session of its own
            os.killpg(process.pid, signal.SIGKILL)
            raise


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that this one loads nothing and its threads disturb nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
