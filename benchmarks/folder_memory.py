"""Does the memory of cnn-infer grow with the number of files? Compares 10,000 files with 600,000.

    python benchmarks/folder_memory.py MODEL PICTURES --output folder_memory.json

MODEL is an exported model; the smaller it is, the more visible is the memory that files take. PICTURES is a folder. Up
to a thousand of its pictures are copied to a temporary folder, and links to the copies make up the wanted number of
files: in ten folders, in one folder, and as a list of paths on standard input. Each case is a cnn-infer command of its
own that writes its rows to a file. The memory is the peak resident memory that the kernel reports. The exit code is 1
if any case with many files takes over 10% more than the case with few.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from cnn_infer import find_pictures
from links import picture_files
from processes import in_own_process, measured
from report import conditions, parser, run_script, short, write

FOLDERS = {"ten folders": 10, "one folder": 1, "a list": 10}
"""The cases, and the number of folders in each."""

ALLOWED = 1.10
"""Largest allowed ratio between the memory for many files and for few."""


def make_folders(pictures: list[str], count: int, folders: int, place: Path) -> None:
    """Make ``count`` files below ``place``: a copy of each picture, then hard links to the copies in turn."""
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


def case(model: Path, pictures: list[str], count: int, kind: str) -> dict[str, Any]:
    """Classify ``count`` files and return the row of the report. Exits if a file has no row in the output."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pictures")
        make_folders(pictures, count, FOLDERS[kind], folder)
        output, listing = Path(place, "rows.csv"), Path(place, "list.txt")
        given = "-" if kind == "a list" else str(folder)
        with listing.open("w") as stream:
            stream.writelines(f"{path}\n" for path in find_pictures([folder] if given == "-" else []))
        command = [sys.executable, "-m", "cnn_infer", given, "--model", str(model), "--format", "csv"]
        done = measured([*command, "--output", str(output)], stdin=listing)
        with output.open("rb") as stream:
            rows = sum(1 for _ in stream) - 1
    if rows != count:
        sys.exit(f"failed: {rows:,} rows for {count:,} files")
    return {"files": count, "in": kind, "peak_mb": done.peak_mb, "seconds": done.seconds}


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", type=Path, help="an exported model")
    arguments.add_argument("pictures", type=Path, help="a folder of pictures")
    arguments.add_argument(
        "--files", type=int, nargs=2, default=[10_000, 600_000], metavar=("FEW", "MANY"), help="numbers of files"
    )
    options = arguments.parse_args()
    pictures = picture_files(options.pictures)[:1000]
    few, many = options.files
    packages = ("cnn-infer", "onnxruntime", "numpy", "pillow")
    head = conditions("folder_memory.py MODEL PICTURES", packages, files=options.files)
    print(head["machine"])
    rows = []
    for count, kind in ((few, "ten folders"), *((many, kind) for kind in FOLDERS)):
        # in a process of its own: the kernel counts the peak of a process for the commands that it starts, and deleting
        # the folder of 600,000 files takes more memory than reading it
        rows.append(in_own_process(case, options.model, pictures, count, kind))
        row = rows[-1]
        row["of_few"] = row["peak_mb"] / rows[0]["peak_mb"]
        print(f"{count:>9,} files in {kind:<11} {row['peak_mb']:6.1f} MB, {row['of_few']:.1%}", flush=True)
    write(options.output, {**head, "model": short(options.model), "rows": rows})
    sys.exit(1 if max(row["of_few"] for row in rows) > ALLOWED else 0)


if __name__ == "__main__":
    run_script(main)
