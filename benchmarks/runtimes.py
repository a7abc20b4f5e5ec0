"""Do other runtimes and other versions give the same classes as this environment, on every test picture?

    python benchmarks/runtimes.py RUN... --python PYTHON --python PYTHON --output runtimes.json

Each RUN is a folder that cnn-export --quantize wrote. Each PYTHON is the interpreter of an environment with NumPy and
onnxruntime or openvino, or both; EdgeCNN need not be installed there. The test pictures are read from the data set of
the training, and it is verified that they are the same pixels. The exit code is 1 if a probability differs by more than
the tolerance, or if a class differs that is not a tie within the tolerance:

- For ONNX Runtime it is that of ``cnn-infer --verify``: 0.0001 for fp32 and 0.02 for fp16. For int8 it is 0.0001 if the
  file has the proof that all its integers are the same on every processor, else 0.02.
- For OpenVINO it is 0.0001 for fp32 and 0.02 for the others. The proof is about the kernels of ONNX Runtime: OpenVINO
  rewrites an int8 graph and rounds between other nodes.

OpenVINO runs fp32 files in bf16 if the processor supports it. This script asks for fp32, because it tests the file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from batches import probabilities_of
from cnn_export.run_data import open_run_source, read_test_split
from cnn_infer import Classifier, Spec
from cnn_infer.proof.golden import TOLERANCE, tolerance_of
from cnn_train import Run
from report import conditions, parser, run_script, short, write

IN_RUNTIME = Path(__file__).with_name("run_in_runtime.py")


def tolerance_for(runtime: str, spec: Spec) -> float:
    """The largest accepted difference of a probability in ``onnxruntime`` or ``openvino``, 0 to 1."""
    return tolerance_of(spec) if runtime == "onnxruntime" else TOLERANCE[spec.precision]


def compared(model: Path, pictures: np.ndarray, python: Path, folder: Path) -> list[dict[str, Any]]:
    """Compare the runtimes of another environment with this one.

    Args:
        model: An exported model.
        pictures: uint8 (n, height, width, channels).
        python: The interpreter of the other environment.
        folder: An empty folder for exchanging arrays.

    Returns:
        An entry for each runtime, with the differences of its classes and probabilities.
    """
    classifier = Classifier(model)
    wanted = probabilities_of(classifier, pictures)
    np.save(folder / "pictures.npy", pictures)
    command = [str(python), str(IN_RUNTIME), str(model), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    entries = []
    for name, version in json.loads(done.stdout).items():
        tolerance = tolerance_for(name, classifier.spec)
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
                "tolerance": tolerance,
                "passed": most <= tolerance and bool((other == ties).all()),
            }
        )
    return entries


def main() -> int:
    """Print a line for each model and runtime; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an exported run folder")
    arguments.add_argument(
        "--python",
        action="append",
        required=True,
        type=Path,
        help="the Python of an environment with other runtimes; repeat it for several",
    )
    options = arguments.parse_args()
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
                            "{model:<40} {runtime} {version}: {other_classes} of {pictures} classes differ"
                            " ({of_them_ties} ties), probabilities within {largest_difference:.2g}".format(**entry),
                            "" if entry["passed"] else " FAILED",
                            flush=True,
                        )
    head = conditions(f"runtimes.py RUN...{' --python PYTHON' * len(options.python)}", ("cnn-infer", "onnxruntime"))
    write(options.output, {**head, "rows": entries})
    return 0 if all(entry["passed"] for entry in entries) else 1


if __name__ == "__main__":
    run_script(main)
