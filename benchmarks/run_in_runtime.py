"""Run a model in each runtime that an environment has. benchmarks/runtimes.py starts this script there.

    PYTHON run_in_runtime.py MODEL FOLDER

FOLDER holds pictures.npy, uint8 (n, height, width, channels). The script writes the probabilities of each runtime to
RUNTIME.npy in the same folder, float32 (n, classes), and prints the versions of the runtimes as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import numpy as np

BATCH = 100


def batches(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures in order, in batches of :data:`BATCH`."""
    for start in range(0, len(pictures), BATCH):
        yield np.ascontiguousarray(pictures[start : start + BATCH])


def in_onnxruntime(model: str, pictures: np.ndarray) -> np.ndarray:
    """Probabilities from a plain ONNX Runtime session."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["probabilities"], {"image": batch})[0] for batch in batches(pictures)])


def in_openvino(model: str, pictures: np.ndarray) -> np.ndarray:
    """Probabilities from OpenVINO, which computes in fp32 if the file is fp32."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    output = compiled.output("probabilities")
    return np.concatenate([compiled({"image": batch})[output].copy() for batch in batches(pictures)])


def main() -> None:
    """Run the pictures through all installed runtimes."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", help="an exported model")
    arguments.add_argument("folder", type=Path, help="the folder of pictures.npy")
    options = arguments.parse_args()
    model, folder = options.model, options.folder
    pictures = np.load(folder / "pictures.npy")
    versions = {}
    for name, run in (("onnxruntime", in_onnxruntime), ("openvino", in_openvino)):
        if util.find_spec(name):
            np.save(folder / f"{name}.npy", run(model, pictures))
            versions[name] = metadata.version(name)
    print(json.dumps(versions))


if __name__ == "__main__":
    main()
