"""How long does the check of a data set take, how much memory, and what does it find between train and test?

    python benchmarks/check.py DATA --output check.json

DATA is what cnn-train takes, such as fashion-mnist or a folder. Memory is the growth of the process's own memory
(RssAnon of Linux, ten times a second) during the check, without the pictures themselves if they are arrays: those are
loaded by a first check of the same data, whose time is not counted either. Test pictures are counted once, however many
partners they have. The exit code is 1 if 60,000 pictures would take more than 120 seconds.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from cnn_train import check
from processes import status_of
from report import conditions, parser, run_script, write

MOST_SECONDS = 120
ACROSS = ("copy-across-splits", "near-duplicate-across-splits")


def own_memory() -> int:
    """Bytes of this process that are not those of files."""
    return 1024 * status_of()["RssAnon"]


class Peak(threading.Thread):
    """The largest value of :func:`own_memory` until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.ended = own_memory(), threading.Event()

    def run(self) -> None:
        """Look ten times a second."""
        while not self.ended.wait(0.1):
            self.bytes = max(self.bytes, own_memory())


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("data", metavar="DATA", help="the data set")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        check(options.data, out=Path(place) / "first")  # imports, and the files in the memory of the system
        before, peak = own_memory(), Peak()
        peak.start()
        start = time.perf_counter()
        found = check(options.data, out=Path(place) / "second")
        seconds = time.perf_counter() - start
        peak.ended.set()
        peak.join()
    pictures = sum(found.report["pictures"].values())
    tests = {each.path for each in found.findings if each.kind in ACROSS}
    mirrored = {each.path for each in found.findings if each.kind in ACROSS and "mirrored" in each.detail}
    counts = {kind: entry["count"] for kind, entry in found.report["kinds"].items()}
    per_60000 = seconds * 60_000 / pictures
    head = conditions(f"check.py {Path(options.data).name}", ("cnn-train", "ImageHash"))
    print(head["machine"])
    print(f"{pictures:,} pictures: {seconds:.1f} s, {per_60000:.1f} s for 60,000")
    grown = peak.bytes - before
    print(f"own memory: {grown / 2**20:.0f} MiB more, {grown / pictures:.0f} bytes a picture")
    print(
        f"pictures with a copy or near duplicate in another split: {len(tests):,}, of them mirrored {len(mirrored):,}"
    )
    print(counts, found.report["near_duplicates"])
    write(
        options.output,
        {
            **head,
            "pictures": found.report["pictures"],
            "seconds": round(seconds, 1),
            "seconds_for_60000": round(per_60000, 1),
            "own_memory_mib": round(grown / 2**20),
            "across_splits": {"pictures": len(tests), "mirrored": len(mirrored)},
            "counts": counts,
            "near_duplicates": found.report["near_duplicates"],
        },
    )
    if per_60000 > MOST_SECONDS:
        sys.exit("failed: too slow")


if __name__ == "__main__":
    run_script(main)
