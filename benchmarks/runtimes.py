"""Do other runtimes, and other versions, give the classes that our export was proven with? On every test picture.

    python benchmarks/runtimes.py RUN... --python PYTHON --python PYTHON --output runtimes.json

Each RUN is a folder that cnn-export --quantize wrote. Each PYTHON is an environment with NumPy and onnxruntime or
openvino, or both; ours need not be installed there. Only the file and the test pictures go to it. The pictures are
found again where training found them, and are shown to be the same. Exit code 1 if a class differs that is not a tie
within the tolerance of ``cnn-infer --verify`` (0.0001 for fp32, 0.02 for int8), or a probability by more than that.

OpenVINO runs float in bf16 where the processor has it: it is asked for fp32 here, as a test of the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cnn_export.provenance import open_run_source, read_test_split
from cnn_infer import Classifier
from cnn_infer.golden import TOLERANCE
from cnn_train import Run
from conditions import conditions, short

IN_RUNTIME = Path(__file__).with_name("run_in_runtime.py")


def compared(model: Path, pictures: np.ndarray, python: Path, folder: Path) -> list[dict[str, Any]]:
    """One entry for each runtime of an environment: how far its probabilities are from those of this one."""
    classifier = Classifier(model)
    wanted = np.concatenate(
        [classifier.probabilities(part) for part in np.array_split(pictures, len(pictures) // 64 + 1)]
    )
    np.save(folder / "pictures.npy", pictures)
    command = [str(python), str(IN_RUNTIME), str(model), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    tolerance = TOLERANCE[str(classifier.spec.details["precision"])]
    entries = []
    for name, version in json.loads(done.stdout).items():
        found = np.load(folder / f"{name}.npy")
        other = found.argmax(axis=1) != wanted.argmax(axis=1)
        top = np.sort(wanted, axis=1)
        ties = other & (top[:, -1] - top[:, -2] <= 2 * tolerance)
        most = float(np.abs(found - wanted).max())
        entries.append(
            {
                "model": short(model),
                "runtime": name,
                "version": version,
                "pictures": len(pictures),
                "other_classes": int(other.sum()),
                "of_them_ties": int(ties.sum()),
                "largest_difference": most,
                "passed": most <= tolerance and bool((other == ties).all()),
            }
        )
    return entries


def main() -> int:
    """Print a line for each model and runtime; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--python", action="append", required=True, type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    entries = []
    for path in options.runs:
        run = Run.open(path)
        pictures = read_test_split(run, open_run_source(run, None)).images
        for model in sorted(path.glob("model*.onnx")):
            for python in options.python:
                with tempfile.TemporaryDirectory() as folder:
                    for entry in compared(model, pictures, python, Path(folder)):
                        entries.append(entry)
                        print(
                            "{model:<40} {runtime} {version}: {other_classes} of {pictures} other classes"
                            " ({of_them_ties} ties), probabilities within {largest_difference:.2g}".format(**entry),
                            "" if entry["passed"] else " FAILED",
                            flush=True,
                        )
    if options.output is not None:
        head = conditions(f"runtimes.py RUN...{' --python PYTHON' * len(options.python)}", ("cnn-infer", "onnxruntime"))
        options.output.write_text(json.dumps({**head, "rows": entries}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(entry["passed"] for entry in entries) else 1


if __name__ == "__main__":
    sys.exit(main())
