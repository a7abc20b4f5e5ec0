"""Usable processors: CPU affinity, and the quota of a control group, a real one if permitted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cnn_infer.system import machine

COUNT = "from cnn_infer.system.machine import usable_cpus; print(usable_cpus())"


def counted(*before: str) -> int:
    return int(subprocess.check_output([*before, sys.executable, "-c", COUNT], text=True))


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_affinity() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    assert counted("taskset", "-c", str(allowed[-1])) == 1
    assert counted("taskset", "-c", ",".join(map(str, allowed))) == min(len(allowed), machine.usable_cpus())


@pytest.fixture
def group() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A control group (v1 or v2) with a child, and a function that sets its quota in microseconds per 100 ms."""
    name = f"cnn-infer-test-{os.getpid()}"
    for root, file, text in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "{}"),
        ("/sys/fs/cgroup", "cpu.max", "{} 100000"),
    ):
        outer = Path(root, name)
        try:
            (outer / "inner").mkdir(parents=True)
            (outer / file).write_text(text.format(100_000))
        except OSError:
            for folder in (outer / "inner", outer):
                with suppress(OSError):
                    folder.rmdir()
            continue
        try:
            yield outer, lambda quota, where=outer / file, form=text: where.write_text(form.format(quota))
        finally:
            (outer / "inner").rmdir()
            outer.rmdir()
        return
    pytest.skip("cannot create a control group on this machine")


@pytest.mark.parametrize("inside", [".", "inner"])
def test_the_quota_of_a_control_group_and_its_parents(group: tuple[Path, Callable[[int], None]], inside: str) -> None:
    folder, set_quota = group
    enter = ("sh", "-c", f'echo $$ > {folder / inside}/cgroup.procs && exec "$@"', "sh")
    everything = len(os.sched_getaffinity(0))
    for quota, cpus in ((100_000, 1), (50_000, 1), (100_000 * everything, everything), (10_000_000, everything)):
        set_quota(quota)
        assert counted(*enter) == cpus
