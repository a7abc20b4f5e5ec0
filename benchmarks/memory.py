"""Does memory grow with the number of pictures? Trains an epoch on a folder, and on the same pictures many times.

    python benchmarks/memory.py PICTURES --times 1 10 --output memory.json

PICTURES holds train/CLASS and test/CLASS. The folders to train on are made of links to its files, in a temporary
place, as if they were that many pictures; each is decoded into a cache of its own. While cnn-train runs, Linux is
asked for its memory a hundred times a second:

- anonymous memory is what cannot be given back: the process dies where there is none. It must stay flat.
- resident memory counts pages of the memory-mapped cache as well, which Linux takes back as soon as it needs them.

The second run is made under a limit (RLIMIT_DATA, of private writable memory): what the first run was seen to take at
most, and ``--spare`` megabytes more, since peaks of a millisecond are not always seen. Without room for all of its
pictures it must train all the same: give it more decoded pictures than there is to spare.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cnn_infer import find_pictures
from conditions import conditions

FIELDS = {"RssAnon": "anonymous_mb", "VmRSS": "resident_mb", "VmData": "data_mb"}


def link(pictures: Path, times: int, folder: Path) -> int:
    """Link every picture ``times`` times into ``folder``; how many links that makes."""
    count = 0
    for path in map(Path, find_pictures([pictures])):
        place = folder / path.relative_to(pictures).parent
        place.mkdir(parents=True, exist_ok=True)
        for number in range(times):
            target = place / f"{number:04}-{path.name}"
            try:
                target.hardlink_to(path)
            except OSError:  # of another disk
                target.symlink_to(path.resolve())
            count += 1
    return count


def watched(command: list[str], limit: int | None) -> dict[str, float]:
    """Run a command, under a limit in bytes where there is one; the most it took, in megabytes."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    most = dict.fromkeys(FIELDS.values(), 0.0)
    process = subprocess.Popen(command, preexec_fn=limited)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        for name, *values in lines:
            key = FIELDS.get(name.rstrip(":"))
            if key is not None:
                most[key] = max(most[key], int(values[0]) / 1024)
        time.sleep(0.01)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {' '.join(command)}")
    return most


def measured(pictures: Path, times: int, size: int | None, limit_mb: float | None) -> dict[str, Any]:
    """One row: train an epoch on ``times`` links to each picture."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        count = link(pictures, times, folder)
        places = ["--cache", f"{place}/cache", "--out", f"{place}/run"]
        options = ["--model", "nano", "--epochs", "1", *(["--size", str(size)] if size else [])]
        command = [sys.executable, "-m", "cnn_train", str(folder), *options, *places]
        most = watched(command, None if limit_mb is None else int(limit_mb * (1 << 20)))
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--times", type=int, nargs=2, default=[1, 10], help="links to each picture, in each run")
    parser.add_argument("--size", type=int, help="side to decode to, in pixels; default: as cnn-train decides")
    parser.add_argument("--spare", type=float, default=1024, help="megabytes that the second run may take more")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not os.path.exists("/proc/self/status"):
        sys.exit("this needs Linux: elsewhere nobody tells anonymous memory from mapped files")
    few = measured(options.pictures, options.times[0], options.size, None)
    many = measured(options.pictures, options.times[1], options.size, few["data_mb"] + options.spare)
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
            f"{row['seconds_with_preparation']:,.0f} s in all{limit}"
        )
    print(f"a picture more takes {grown:,.0f} bytes more")
    if options.output is not None:
        document = {**head, "bytes_per_picture": grown, "rows": [few, many]}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
