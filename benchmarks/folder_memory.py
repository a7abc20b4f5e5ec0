"""Does the memory of cnn-infer grow with the number of files? Classifies links to a few pictures, 10,000 and 600,000.

    python benchmarks/folder_memory.py MODEL PICTURES --output folder_memory.json

MODEL is an exported model (with a small one, what files take is seen best), PICTURES a folder. A thousand of its
pictures are copied to a temporary place and linked there so often as is wanted, in ten folders, in one, and as a list
on standard input. Each run is a command of its own that writes its rows into a file; its peak of resident memory is the
kernel's figure. Exit code 1 where many files take 10% more than few.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from cnn_infer import find_pictures
from conditions import conditions, short

FOLDERS = {"ten folders": 10, "one folder": 1, "a list": 10}
ALLOWED = 1.10


def link(pictures: list[str], count: int, folders: int, place: Path) -> None:
    """Make ``count`` links to copies of the pictures, in turn."""
    for number in range(folders):
        (place / f"{number}").mkdir(parents=True)
    for number in range(count):
        source = pictures[number % len(pictures)]
        target = place / f"{number % folders}" / f"{number:07}{Path(source).suffix}"
        if number < len(pictures):
            shutil.copyfile(source, target)
        else:
            first = number % len(pictures)
            target.hardlink_to(place / f"{first % folders}" / f"{first:07}{Path(source).suffix}")


def measured(model: Path, pictures: list[str], count: int, kind: str) -> dict[str, Any]:
    """One run: its peak in megabytes, and that every file got its row."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        link(pictures, count, FOLDERS[kind], folder)
        output, listing = Path(place, "rows.csv"), Path(place, "list.txt")
        given = "-" if kind == "a list" else str(folder)
        with listing.open("w") as stream:
            stream.writelines(f"{path}\n" for path in find_pictures([folder] if given == "-" else []))
        command = [sys.executable, "-m", "cnn_infer", given, "--model", str(model), "--format", "csv"]
        start = time.perf_counter()
        with listing.open("rb") as stream:
            process = subprocess.Popen([*command, "--output", str(output)], stdin=stream)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        with output.open("rb") as stream:
            rows = sum(1 for _ in stream) - 1
    if status or rows != count:
        sys.exit(f"failed: {rows:,} rows of {count:,}, status {status}")
    return {"files": count, "in": kind, "peak_mb": usage.ru_maxrss / 1024, "seconds": seconds}


def main() -> None:
    """Print a table; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--files", type=int, nargs=2, default=[10_000, 600_000], metavar=("FEW", "MANY"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    pictures = list(islice(find_pictures([options.pictures]), 1000))
    few, many = options.files
    packages = ("cnn-infer", "onnxruntime", "numpy", "pillow")
    head = conditions("folder_memory.py MODEL PICTURES", packages, files=options.files)
    print(head["machine"])
    rows = []
    for count, kind in ((few, "ten folders"), *((many, kind) for kind in FOLDERS)):
        rows.append(measured(options.model, pictures, count, kind))
        row = rows[-1]
        row["of_few"] = row["peak_mb"] / rows[0]["peak_mb"]
        print(f"{count:>9,} files in {kind:<11} {row['peak_mb']:6.1f} MB, {row['of_few']:.1%}", flush=True)
    if options.output is not None:
        document = {**head, "model": short(options.model), "rows": rows}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if max(row["of_few"] for row in rows) > ALLOWED else 0)


if __name__ == "__main__":
    main()
