"""Four threads ask one Classifier for predictions, of good and bad pictures, for long: does anything grow or change?

    python benchmarks/soak.py --seconds 1200 --output soak.json

The pictures are those that fuzz.py begins with and damaged ones made of them, as bytes and as files. Each answer, also
an error's text, must equal the one that a single thread got before. Memory and open files are looked at every second.
Exit code 1 where an answer differs, a file stays open, or the most memory of the last quarter is more than that of the
second by over ``--allowed`` megabytes (the first one fills the caches of Python and of the runtime).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cnn_infer import Classifier, PictureError, Prediction
from conditions import conditions
from fuzz import MODELS, mutated, picture_seeds

DAMAGED = 200


def pictures(folder: Path) -> list[bytes | Path]:
    """Good and damaged pictures, each as bytes and as a file, and a file that is not there."""
    seeds = picture_seeds()
    data = [*seeds, *(mutated(random.Random(number), seeds) for number in range(DAMAGED)), b""]
    files = [folder / f"{number}.jpg" for number in range(len(data))]
    for file, content in zip(files, data, strict=True):
        file.write_bytes(content)
    return [*data, *files, folder / "absent.jpg"]


def answer(classifier: Classifier, picture: bytes | Path) -> Prediction | str:
    """The prediction, or the reason why there is none."""
    try:
        return classifier.predict(picture)
    except PictureError as error:
        return str(error)


def state() -> dict[str, float]:
    """Resident memory that belongs to this process alone, in megabytes, its open files and its threads."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "anonymous_mb": int(fields["RssAnon"][0]) / 1024,
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": int(fields["Threads"][0]),
    }


class Asking(threading.Thread):
    """Asks for all pictures in an order of its own, again and again."""

    def __init__(self, number: int, classifier: Classifier, wanted: dict[bytes | Path, Prediction | str]) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.calls = 0
        self.wrong: list[str] = []
        self._chance = random.Random(number)
        self._classifier = classifier
        self._wanted = wanted

    def run(self) -> None:
        """Until ``stop`` is set."""
        order = list(self._wanted)
        while not self.stop.is_set():
            self._chance.shuffle(order)
            for picture in order:
                try:
                    found: object = answer(self._classifier, picture)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is wrong
                    found = repr(error)
                if found != self._wanted[picture]:
                    self.wrong.append(f"{picture!r:.80}: {found}, not {self._wanted[picture]}")
                self.calls += 1
                if self.stop.is_set():
                    break


def soaked(classifier: Classifier, folder: Path, threads: int, seconds: float) -> dict[str, Any]:
    """Ask for so long; what was seen."""
    wanted = {picture: answer(classifier, picture) for picture in pictures(folder)}
    askers = [Asking(number, classifier, wanted) for number in range(threads)]
    before, seen = state(), []
    start = time.monotonic()
    for asker in askers:
        asker.start()
    while time.monotonic() - start < seconds:
        time.sleep(min(1.0, seconds / 20))
        seen.append({"seconds": time.monotonic() - start, **state()})
    for asker in askers:
        asker.stop.set()
    for asker in askers:
        asker.join()
    after, quarter = state(), len(seen) // 4
    second, last = (max(row["anonymous_mb"] for row in part) for part in (seen[quarter : 2 * quarter], seen[-quarter:]))
    return {
        "seconds": time.monotonic() - start,
        "threads": threads,
        "pictures": len(wanted),
        "unreadable": sum(isinstance(found, str) for found in wanted.values()),
        "calls": sum(asker.calls for asker in askers),
        "wrong": [line for asker in askers for line in asker.wrong],
        "open_files_more": after["open_files"] - before["open_files"],
        "memory_more_mb": last - second,
        "before": before,
        "after": after,
        "seen": seen[:: max(1, len(seen) // 20)],
    }


def main() -> None:
    """Print what was seen; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODELS / "rgb.onnx")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--allowed", type=float, default=2.0, help="megabytes that memory may be more")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soaked(Classifier(options.model, device="cpu"), Path(folder), options.threads, options.seconds)
    print(
        f"{found['calls']:,} predictions in {found['seconds']:,.0f} s from {found['threads']} threads: "
        f"{len(found['wrong'])} wrong, {found['open_files_more']} files stayed open, "
        f"memory {found['memory_more_mb']:+.2f} MB on {found['after']['anonymous_mb']:.1f}"
    )
    for line in found["wrong"][:10]:
        print(line)
    if options.output is not None:
        head = conditions(
            "soak.py",
            ("cnn-infer", "onnxruntime", "pillow", "numpy"),
            model=None if options.model == parser.get_default("model") else "MODEL",
            seconds=options.seconds,
            threads=options.threads,
        )
        options.output.write_text(json.dumps({**head, **found}, indent=2) + "\n", encoding="utf-8")
    grew = found["memory_more_mb"] > options.allowed or found["open_files_more"] > 0
    sys.exit(1 if found["wrong"] or grew else 0)


if __name__ == "__main__":
    main()
