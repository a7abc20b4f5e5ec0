"""How fast is the exact evaluation of an int8 file in integers, and does it equal ONNX Runtime to the bit?

    python benchmarks/reference.py MODEL... --pictures 2000 --output reference.json

Each MODEL is an int8 file. The pictures are random bytes: a file overflows most with them. Each file is evaluated with
exact sums and with saturated ones, in turn with ONNX Runtime, for three rounds; the speeds are medians of pictures per
second with all processors.

- ``equal_logits``: pictures whose logits equal those of ONNX Runtime on this machine to the bit. On a machine that
  saturates, those are the saturated ones.
- ``saturated``: pictures whose logits differ between exact and saturated sums.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cnn_export.int8.reference import Reference
from cnn_export.int8.targets import kind_of_this_machine
from cnn_export.parity import run_model
from cnn_infer import open_model
from cnn_infer.model import SPEC_KEY
from cnn_infer.spec import Spec
from report import conditions, parser, run_script, short, write

ROUNDS = 3


def measure(path: Path, count: int) -> dict[str, Any]:
    """The speeds of one model, and how many of the pictures have equal logits."""
    model, opened = onnx.load(path), open_model(path, device="cpu")
    shape = Spec.from_json(opened.metadata[SPEC_KEY]).shape
    pictures = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    exact, saturating = Reference(model), Reference(model, saturates=True)
    ways = {
        "exact": lambda: exact.run(pictures),
        "saturating": lambda: saturating.run(pictures),
        "onnxruntime": lambda: run_model(opened, pictures),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    logits = {}
    for _ in range(ROUNDS):
        for name, run in ways.items():
            start = time.perf_counter()
            logits[name] = run().logits
            speeds[name].append(count / (time.perf_counter() - start))
    here = logits["saturating" if kind_of_this_machine() == "avx2" else "exact"]
    return {
        "model": short(path),
        "pictures": count,
        **{f"{name}_per_second": round(statistics.median(found), 1) for name, found in speeds.items()},
        "equal_logits": int((here == logits["onnxruntime"]).all(axis=1).sum()),
        "saturated": int((logits["exact"] != logits["saturating"]).any(axis=1).sum()),
    }


def main() -> None:
    """Measure each model and print its row."""
    options = parser(__doc__)
    options.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    options.add_argument("--pictures", type=int, default=2000, help="random pictures (default: %(default)s)")
    given = options.parse_args()
    rows = []
    for path in given.models:
        rows.append(measure(path, given.pictures))
        print(rows[-1])
    packages = ("cnn-export", "torch", "numpy", "onnxruntime")
    write(given.output, {**conditions("reference.py MODEL", packages, pictures=given.pictures), "models": rows})


if __name__ == "__main__":
    run_script(main)
