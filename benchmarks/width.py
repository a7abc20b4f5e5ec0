"""How much faster is an int8 file whose first convolution reads four pixels at a time?

    python benchmarks/width.py BEFORE/model.int8.onnx ... --output width.json

Each file is from before export made this form: it begins with four shifted copies and a 1x1 convolution. The other form
is made here, and both are timed in turn, in one process and on one thread. ``times`` is the time of the file as it is,
divided by the time with wide pixels: median and quartiles over the rounds, by batch size.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from cnn_export.graph.width import widen_pixels
from presets import timed_in_turn
from report import conditions, parser, run_script, write
from sessions import one_thread_session

BATCHES = (1, 64, 256)


def main() -> None:
    """Compare the two forms of each file."""
    arguments = parser(__doc__)
    arguments.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    options = arguments.parse_args()
    rows = []
    for model in options.models:
        wide = onnx.load(model)
        if not widen_pixels(wide):
            print(f"{model}: no other form")
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "wide.onnx")
            onnx.save(wide, path)
            inputs = [one_thread_session(file.read_bytes()) for file in (model, path)]
            shape = [32, *inputs[0].get_inputs()[0].shape[1:]]
            pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            first, second = (session.run(["logits"], {"image": pictures})[0] for session in inputs)
            row = {
                "model": f"{model.parent.name}/{model.name}",
                "equal_bits": bool(np.array_equal(first, second)),
                "times": {str(batch): timed_in_turn(model, path, batch) for batch in BATCHES},
            }
        rows.append(row)
        print(row, flush=True)
    write(options.output, {**conditions("width.py MODEL...", ("cnn-export", "onnxruntime")), "rows": rows})


if __name__ == "__main__":
    run_script(main)
