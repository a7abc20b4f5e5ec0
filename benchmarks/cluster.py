"""The overhead of --ray on one node: the same folder through the plain command and through Ray Data, in turn.

    python benchmarks/cluster.py MODEL PICTURES --output cluster.json

MODEL is an exported file, PICTURES a folder. Each round runs, in turn:

- ``plain``: cnn-infer with its rows in one CSV file;
- ``here``: with ``--ray``, which starts a cluster on this machine and ends it;
- ``cluster``: with ``--ray ADDRESS``, on a cluster of this machine that was started before the first round.

The first round warms the page cache. For each the seconds from start to exit, and the pictures per second from the
first picture to the last as the report has them. The overhead of a round is the time for each picture beside that of
``plain``, minus 1: once from the rates, and once from the seconds with all start-up. ``start_seconds`` is the time of
the same command on a single picture: start, connection, actors, end.

Then one more run on the cluster that runs, in this process, with the seconds of each stage: ``check`` (the model, and
a search of the pictures for the files of results), ``connect``, ``listing`` (search, digest, lists of parts),
``start_of_actors`` (from the plan to the first part), ``parts`` (from the start of the first to the end of the last;
``idle_at_the_end`` is how long before that an actor had nothing more to do, ``between_parts`` how long an actor waited
for its next part, in all), ``end_of_actors``, ``merge`` and
``disconnect``.

``--listing N`` measures instead the memory and time of the driver for a listing of N empty files.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cnn_infer.cluster import connection
from cnn_infer.cluster.connection import OBJECT_STORE
from cnn_infer.cluster.folder import JobFolder
from cnn_infer.cluster.job import Job
from cnn_infer.cluster.listing import cut
from cnn_infer.cluster.worker import Work
from cnn_infer.command import on_cluster
from cnn_infer.command.cli import command
from cnn_infer.paths.find import find_below
from cnn_infer.system import machine
from links import picture_files
from processes import measured
from report import conditions, parser, run_script, short, write

COMMAND = [sys.executable, "-m", "cnn_infer"]


def classified(model: Path, pictures: Path, folder: Path, *more: str) -> dict[str, float]:
    """Seconds and rate of one run."""
    report = folder / "report.json"
    command = [*COMMAND, str(pictures), "--model", str(model), "--format", "csv", "--report", str(report), *more]
    done = measured([*command, "--output", str(folder / "rows")])
    rate = json.loads(report.read_text())["images_per_second"]
    return {"seconds": done.seconds, "pictures_per_second": rate, "driver_peak_mb": done.peak_mb}


def rounds_of(model: Path, pictures: Path, rounds: int) -> tuple[dict[str, list[dict[str, float]]], dict[str, float]]:
    """The runs of each way, in turn, and the seconds of each stage."""
    from ray.cluster_utils import Cluster

    single = Path(picture_files(pictures)[0])
    node = {"num_cpus": machine.usable_cpus(), "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    ways = {"plain": [], "here": ["--ray"], "cluster": [f"--ray={cluster.address}"]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    try:
        with tempfile.TemporaryDirectory() as place:
            for number in range(rounds):
                for name, more in ways.items():
                    folder = Path(place, f"{name}-{number}")
                    folder.mkdir()
                    row = classified(model, pictures, folder, *more)
                    one = Path(place, f"one-{name}-{number}")
                    one.mkdir()
                    start = classified(model, single, one, *more)["seconds"]
                    found[name].append({**row, "start_seconds": start})
        return found, stages_of(model, pictures, cluster.address)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def stages_of(model: Path, pictures: Path, address: str) -> dict[str, float]:
    """The seconds of each stage of one run on a cluster, in this process."""
    marks: list[tuple[str, float]] = []
    answers: list[dict[str, Any]] = []
    connect, answered, merged = connection.connected, Job._answers, Job.report

    @contextmanager
    def connected(where: str | None) -> Iterator[None]:
        marks.append(("check", time.time()))
        with connect(where):
            marks.append(("connect", time.time()))
            yield
            marks.append(("end_of_actors", time.time()))
        marks.append(("disconnect", time.time()))

    def noted(job: Job, work: Work, missing: list[int]) -> Iterator[dict[str, Any]]:
        marks.append(("listing", time.time()))
        for answer in answered(job, work, missing):
            answers.append(answer)
            yield answer
        job_threads.append(job.threads)

    def report(*arguments: Any) -> Any:
        start = time.time()
        found = merged(*arguments)
        marks.append(("merge", time.time() - start + marks[-1][1]))
        return found

    job_threads: list[int] = []
    begin = time.time()
    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(on_cluster, "connected", connected),
        patch.object(Job, "_answers", noted),
        patch.object(Job, "report", report),
    ):
        arguments = [str(pictures), "--model", str(model), "--format", "csv", "--report", f"{place}/report.json"]
        command.main([*arguments, "--output", f"{place}/rows", f"--ray={address}"], standalone_mode=False)
    whole = time.time() - begin
    ended = sorted(answer["ended"] for answer in answers)
    times = [begin, *(mark for _, mark in marks)]
    found = {name: after - before for (name, after), before in zip(marks, times, strict=False)}
    listed = dict(marks)["listing"]
    first = min(answer["started"] for answer in answers)
    found["end_of_actors"] = dict(marks)["end_of_actors"] - ended[-1]
    actors = min(job_threads[0], len(ended))
    idle = [ended[-1] - end for end in ended[-actors:]]
    busy = sum(answer["ended"] - answer["started"] for answer in answers)
    return {
        **found,
        "start_of_actors": first - listed,
        "parts": ended[-1] - first,
        "idle_at_the_end": idle[0],
        "between_parts": (actors * (ended[-1] - first) - sum(idle) - busy) / actors,
        "whole": whole,
    }


def listing(count: int) -> dict[str, float]:
    """Time and memory of the driver for a listing of ``count`` files that are written to the folder of a job."""
    with tempfile.TemporaryDirectory() as place:
        for number in range(count):
            if number % 10_000 == 0:
                folder = Path(place, "in", f"{number // 10_000:05}")
                folder.mkdir(parents=True)
            os.close(os.open(folder / f"{number:09}.jpg", os.O_CREAT))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start = time.perf_counter()
        job = JobFolder(os.path.join(place, "out"), "csv")
        job.begin()
        with job.lists() as keep:
            found = cut(find_below([os.path.join(place, "in")]), 2000, keep, lambda _: None)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "names": found.pictures,
            "parts": found.parts,
            "seconds": seconds,
            "before_mb": before,
            "peak_mb": after,
        }


def overhead(found: dict[str, list[dict[str, float]]], way: str, key: str) -> float:
    """The median over the rounds of the time for each picture beside ``plain``, minus 1."""
    pairs = zip(found["plain"], found[way], strict=True)
    times = [plain[key] / other[key] if key != "seconds" else other[key] / plain[key] for plain, other in pairs]
    return statistics.median(times) - 1


def main() -> None:
    """Print the medians and the overhead; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", nargs="?", type=Path, help="an exported model")
    arguments.add_argument("pictures", nargs="?", type=Path, help="a folder of pictures")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds of the three ways")
    arguments.add_argument("--listing", type=int, metavar="N", help="measure the listing of N files instead")
    options = arguments.parse_args()
    packages = ("cnn-infer", "ray", "pyarrow", "onnxruntime", "numpy", "pillow")
    if options.listing:
        line = listing(options.listing)
        print(json.dumps(line))
        write(options.output, {**conditions("cluster.py", packages, listing=options.listing), **line})
        return
    if options.pictures is None:
        arguments.error("name MODEL and PICTURES, or pass --listing N")
    found, stages = rounds_of(options.model, options.pictures, options.rounds)
    head = conditions("cluster.py MODEL PICTURES", packages, rounds=options.rounds)
    print(f"{head['machine']}; medians of {options.rounds} rounds")
    figures: dict[str, Any] = {}
    for name, rows in found.items():
        middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        more = (
            {}
            if name == "plain"
            else {
                "overhead_of_rate": overhead(found, name, "pictures_per_second"),
                "overhead_with_start": overhead(found, name, "seconds"),
            }
        )
        figures[name] = {**middle, **more, "rounds": rows}
        text = "".join(f", {key.replace('_', ' ')} {value:+.1%}" for key, value in more.items())
        print(
            f"{name:<8} {middle['pictures_per_second']:8,.0f} pictures/s, {middle['seconds']:6.1f} s in all, "
            f"{middle['start_seconds']:.1f} s for one picture{text}"
        )
    print("seconds of each stage: " + ", ".join(f"{name} {value:.1f}" for name, value in stages.items()))
    write(options.output, {**head, "model": short(options.model), **figures, "stages": stages})


if __name__ == "__main__":
    run_script(main)
