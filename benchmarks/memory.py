"""Does training memory grow with the number of pictures? Trains an epoch on a folder, then on ten times as many.

    python benchmarks/memory.py PICTURES --times 1 10 --output memory.json

PICTURES holds train/CLASS and test/CLASS. Each run trains on a temporary folder of links to its files, which count as
pictures of their own, and has its own decode cache. While cnn-train runs, its memory is sampled a hundred times a
second:

- Anonymous memory cannot be reclaimed: without enough of it the process dies. It must not grow.
- Resident memory also counts pages of the memory-mapped cache, which Linux reclaims when it needs them.

The second run has a limit on its private writable memory (RLIMIT_DATA): the peak of the first run plus ``--spare``
megabytes, because sampling misses short peaks. It must train although its pictures do not fit under the limit, so use
more decoded pictures than ``--spare`` megabytes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from links import link_pictures, picture_files
from processes import status_of
from report import conditions, parser, run_script, write

FIELDS = {"RssAnon": "anonymous_mb", "VmRSS": "resident_mb", "VmData": "data_mb"}
"""The fields of /proc/PID/status, and their keys in the report."""


def peaks(command: list[str], limit: int | None) -> dict[str, float]:
    """Run a command and return the peaks of its memory in megabytes.

    Args:
        command: The program and its arguments.
        limit: Largest private writable memory in bytes; None: no limit.
    """

    def set_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    most = dict.fromkeys(FIELDS.values(), 0.0)
    process = subprocess.Popen(command, preexec_fn=set_limit)
    while process.poll() is None:
        status = status_of(process.pid)
        for name, key in FIELDS.items():
            most[key] = max(most[key], status.get(name, 0) / 1024)  # it has none of them once it has ended
        time.sleep(0.01)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    return most


def train_epoch(pictures: Path, times: int, size: int | None, limit_mb: float | None) -> dict[str, Any]:
    """Train an epoch on ``times`` links to each picture and return the row of the report."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        files = picture_files(pictures)
        count = len(link_pictures(files, pictures, times * len(files), folder))
        places = ["--cache", f"{place}/cache", "--out", f"{place}/run"]
        options = ["--model", "nano", "--epochs", "1", *(["--size", str(size)] if size else [])]
        command = [sys.executable, "-m", "cnn_train", str(folder), *options, *places]
        most = peaks(command, None if limit_mb is None else int(limit_mb * (1 << 20)))
        cache = sum(file.stat().st_size for file in Path(place, "cache").rglob("*") if file.is_file())
        spec = json.loads(Path(place, "run", "spec.json").read_text(encoding="utf-8"))
        report = json.loads(Path(place, "run", "report.json").read_text(encoding="utf-8"))
        epoch = json.loads(Path(place, "run", "metrics.jsonl").read_text(encoding="utf-8"))
    return {
        "pictures": count,
        "pixels": f"{spec['width']} x {spec['height']}",
        "decoded_mb": cache / (1 << 20),
        **most,
        "limit_mb": limit_mb,
        "training_pictures_per_second": epoch["images_per_second"],
        "seconds_with_preparation": report["seconds_with_preparation"],
    }


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pictures", type=Path, help="a folder with train/CLASS and test/CLASS")
    arguments.add_argument("--times", type=int, nargs=2, default=[1, 10], help="links to each picture, for each run")
    arguments.add_argument(
        "--size", type=int, help="side of the decoded pictures in pixels; default: cnn-train decides"
    )
    arguments.add_argument(
        "--spare", type=float, default=1024, help="megabytes that the second run may take in addition"
    )
    options = arguments.parse_args()
    if not os.path.exists("/proc/self/status"):
        sys.exit("this script needs Linux: no other system separates anonymous memory from mapped files")
    few = train_epoch(options.pictures, options.times[0], options.size, None)
    many = train_epoch(options.pictures, options.times[1], options.size, few["data_mb"] + options.spare)
    grown = (many["anonymous_mb"] - few["anonymous_mb"]) * (1 << 20) / (many["pictures"] - few["pictures"])
    packages = ("cnn-train", "torch", "numpy", "pillow")
    head = conditions("memory.py PICTURES", packages, times=options.times, size=options.size, spare=options.spare)
    print(f"{head['machine']}; cnn-train --model nano --epochs 1")
    for row in (few, many):
        limit = "" if row["limit_mb"] is None else f", under a limit of {row['limit_mb']:,.0f} MB of data"
        print(
            f"{row['pictures']:>9,} pictures of {row['pixels']}, {row['decoded_mb']:>7,.1f} MB decoded: "
            f"{row['anonymous_mb']:,.0f} MB anonymous, {row['resident_mb']:,.0f} MB resident, "
            f"{row['training_pictures_per_second']:,.0f} pictures/s in training, "
            f"{row['seconds_with_preparation']:,.0f} s in total{limit}"
        )
    print(f"each additional picture takes {grown:,.0f} bytes")
    write(options.output, {**head, "bytes_per_picture": grown, "rows": [few, many]})


if __name__ == "__main__":
    run_script(main)
