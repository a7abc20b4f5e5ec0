"""How long does the comparison of the splits take, and how much memory?

    python benchmarks/split_checks.py --pictures 600000 --output split_checks.json

Compares random grey pictures of 28 x 28 pixels, in the splits that a training makes of them: 5/6 train and val, 1/6
test, and one in a hundred test pictures is a copy from train. Memory is what Python and NumPy allocate beside the
pictures at the highest point, and it is measured in a run of its own, because counting slows the comparison. The exit
code is 1 if a picture takes more than 100 bytes, or the whole comparison more than 10 seconds.
"""

from __future__ import annotations

import gzip
import struct
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
from cnn_train import Dataset, open_source, prepare
from cnn_train.data.split_checks import comparison_warnings
from report import conditions, parser, run_script, write

SIDE, CLASSES = 28, 10
MOST_BYTES, MOST_SECONDS = 100, 10


def write_idx(path: Path, values: np.ndarray) -> None:
    """An IDX file, compressed at the lowest level."""
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    with gzip.open(path, "wb", compresslevel=0) as stream:
        stream.write(head)
        stream.write(values.data)


def drawn(count: int, place: Path) -> Dataset:
    """A prepared data set of ``count`` random pictures."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (count, SIDE, SIDE), np.uint8)
    tests = count // 6
    pictures[-tests : -tests + tests // 100] = pictures[: tests // 100]
    labels = np.arange(count, dtype=np.int64).astype(np.uint8) % CLASSES
    labels[-tests : -tests + tests // 100] = labels[: tests // 100]
    folder = place / "idx"
    folder.mkdir()
    for name, part in (("train", slice(0, -tests)), ("t10k", slice(-tests, None))):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", pictures[part])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels[part])
    return prepare(open_source(str(folder)), cache=place / "cache")


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--pictures", type=int, default=600_000, metavar="N", help="number of pictures")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        dataset = drawn(options.pictures, Path(place))
        start = time.perf_counter()
        warnings = comparison_warnings(dataset)
        seconds = time.perf_counter() - start
        tracemalloc.start()
        comparison_warnings(dataset)
        peak = tracemalloc.get_traced_memory()[1] / options.pictures
        tracemalloc.stop()
    head = conditions("split_checks.py", ("cnn-train", "numpy"), pictures=options.pictures)
    print(head["machine"], *warnings, sep="\n")
    print(f"{options.pictures:,} pictures: {seconds:.1f} s, {peak:.0f} bytes a picture beside the pictures")
    write(options.output, {**head, "seconds": round(seconds, 2), "bytes_per_picture": round(peak, 1)})
    if peak > MOST_BYTES or seconds > MOST_SECONDS:
        sys.exit("failed: too slow, or too much memory")


if __name__ == "__main__":
    run_script(main)
