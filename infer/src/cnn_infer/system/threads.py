"""Threads of numeric libraries on a system that refuses to start them."""

from __future__ import annotations

import _thread
import os
from contextlib import suppress

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""The environment variables of OpenBLAS (in NumPy and SciPy) and OpenMP (in PyTorch); they count at import."""


def limit_library_threads() -> None:
    """Let NumPy and PyTorch use one thread, with a warning, if one for each processor cannot be started.

    Otherwise OpenBLAS would raise SIGINT while NumPy is imported, as if by Ctrl-C, and OpenMP would end the process.
    """
    gate = _thread.allocate_lock()

    def wait() -> None:
        with gate:
            pass

    with gate:  # until all threads run at once
        try:
            for _ in range(os.cpu_count() or 1):
                _thread.start_new_thread(wait, ())
        except RuntimeError:
            for name in VARIABLES:
                os.environ.setdefault(name, "1")
            with suppress(OSError):  # standard error may be closed
                os.write(2, b"warning: the system does not start a thread for each processor: one is used\n")
