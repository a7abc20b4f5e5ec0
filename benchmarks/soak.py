"""Four threads use one Classifier for a long time, on good and damaged pictures: do answers change or resources leak?

    python benchmarks/soak.py --seconds 1200 --output soak.json

The pictures are the seeds of fuzz.py and damaged versions of them, as bytes and as files. Each answer, which may be the
text of an error, must equal the answer that a single thread got before. Memory and open files are sampled every second.
The exit code is 1 if an answer differs, if a file stays open, or if the peak memory of the last quarter exceeds that of
the second quarter by over ``--allowed`` megabytes. (The first quarter fills the caches of Python and of the runtime.)
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cnn_infer import Classifier, PictureError, Prediction
from fuzz import MODELS, mutated, picture_seeds
from processes import status_of
from report import conditions, parser, run_script, write

DAMAGED = 200
"""Damaged pictures."""


def pictures(folder: Path) -> list[bytes | Path]:
    """Good and damaged pictures, each as bytes and as a file in ``folder``, and a file that does not exist."""
    seeds = picture_seeds()
    data = [*seeds, *(mutated(random.Random(number), seeds) for number in range(DAMAGED)), b""]
    files = [folder / f"{number}.jpg" for number in range(len(data))]
    for file, content in zip(files, data, strict=True):
        file.write_bytes(content)
    return [*data, *files, folder / "absent.jpg"]


def answer(classifier: Classifier, picture: bytes | Path) -> Prediction | str:
    """The prediction, or the text of the error."""
    try:
        return classifier.predict(picture)
    except PictureError as error:
        return str(error)


def state() -> dict[str, float]:
    """The anonymous resident memory of this process in megabytes, its open files and its threads."""
    found = status_of()
    return {
        "anonymous_mb": found["RssAnon"] / 1024,
        "open_files": len(os.listdir("/proc/self/fd")),
        "threads": found["Threads"],
    }


class User(threading.Thread):
    """A thread that classifies all pictures again and again, each time in a new random order.

    Attributes:
        stop: Set this event to end the thread.
        calls: Predictions so far.
        wrong: A line for each answer that differs from the expected one.
    """

    def __init__(self, seed: int, classifier: Classifier, expected: dict[bytes | Path, Prediction | str]) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.calls = 0
        self.wrong: list[str] = []
        self._random = random.Random(seed)
        self._classifier = classifier
        self._expected = expected

    def run(self) -> None:
        """Classify until ``stop`` is set."""
        order = list(self._expected)
        while not self.stop.is_set():
            self._random.shuffle(order)
            for picture in order:
                try:
                    found: object = answer(self._classifier, picture)
                except BaseException as error:  # noqa: BLE001 - every exception is a wrong answer
                    found = repr(error)
                if found != self._expected[picture]:
                    self.wrong.append(f"{picture!r:.80}: {found}, not {self._expected[picture]}")
                self.calls += 1
                if self.stop.is_set():
                    break


def soak(classifier: Classifier, folder: Path, threads: int, seconds: float) -> dict[str, Any]:
    """Run ``threads`` users for ``seconds`` and return the figures of the report."""
    expected = {picture: answer(classifier, picture) for picture in pictures(folder)}
    users = [User(number, classifier, expected) for number in range(threads)]
    before, seen = state(), []
    start = time.monotonic()
    for user in users:
        user.start()
    while time.monotonic() - start < seconds:
        time.sleep(min(1.0, seconds / 20))
        seen.append({"seconds": time.monotonic() - start, **state()})
    for user in users:
        user.stop.set()
    for user in users:
        user.join()
    after, quarter = state(), len(seen) // 4
    second, last = (max(row["anonymous_mb"] for row in part) for part in (seen[quarter : 2 * quarter], seen[-quarter:]))
    return {
        "seconds": time.monotonic() - start,
        "threads": threads,
        "pictures": len(expected),
        "unreadable": sum(isinstance(found, str) for found in expected.values()),
        "calls": sum(user.calls for user in users),
        "wrong": [line for user in users for line in user.wrong],
        "open_files_more": after["open_files"] - before["open_files"],
        "memory_more_mb": last - second,
        "before": before,
        "after": after,
        "seen": seen[:: max(1, len(seen) // 20)],
    }


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--model", type=Path, default=MODELS / "rgb.onnx", help="default: a small model of the tests"
    )
    arguments.add_argument("--seconds", type=float, default=1200, help="how long to run")
    arguments.add_argument("--threads", type=int, default=4, help="threads that share the classifier")
    arguments.add_argument("--allowed", type=float, default=2.0, help="megabytes by which memory may grow")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Classifier(options.model, device="cpu"), Path(folder), options.threads, options.seconds)
    print(
        f"{found['calls']:,} predictions in {found['seconds']:,.0f} s from {found['threads']} threads: "
        f"{len(found['wrong'])} wrong, {found['open_files_more']} files stayed open, "
        f"memory {found['memory_more_mb']:+.2f} MB on {found['after']['anonymous_mb']:.1f}"
    )
    for line in found["wrong"][:10]:
        print(line)
    head = conditions(
        "soak.py",
        ("cnn-infer", "onnxruntime", "pillow", "numpy"),
        model=None if options.model == arguments.get_default("model") else "MODEL",
        seconds=options.seconds,
        threads=options.threads,
    )
    write(options.output, {**head, **found})
    grew = found["memory_more_mb"] > options.allowed or found["open_files_more"] > 0
    sys.exit(1 if found["wrong"] or grew else 0)


if __name__ == "__main__":
    run_script(main)
