"""Run models on the processor that this Python runs on. benchmarks/processors.py starts this script.

    PYTHON run_emulated.py RESULTS JOB...

Each JOB is a folder with pictures.npy, uint8 (n, height, width, channels), model.onnx, and taps.onnx, the same model
whose outputs include the int8 tensors between its layers. For each JOB the script writes JOB/RESULTS.npz:

- ``logits`` and ``probabilities`` of model.onnx, float32 (n, classes);
- ``tapped``: the logits of taps.onnx, float32 (n, classes);
- ``digests``: a digest of each int8 tensor of each picture, uint64 (n, tensors), in the order of the outputs.

It prints the versions, and the instructions that NumPy and the kernel report, as JSON.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime

BATCH = 25
AT_HWCAP2, HWCAP2_I8MM = 26, 1 << 13
INSTRUCTIONS = {"AVX2": "AVX2", "AVX512VNNI": "AVX512-VNNI", "ASIMDDP": "dot product", "SVE": "SVE"}
"""NumPy's names and ours."""


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def digest(values: np.ndarray) -> int:
    """64 bits that stand for the integers of an array."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=8).digest(), "little")


def outputs_of(folder: Path) -> dict[str, np.ndarray]:
    """The arrays for one JOB."""
    pictures = np.load(folder / "pictures.npy")
    parts = [np.ascontiguousarray(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
    model, taps = session(folder / "model.onnx"), session(folder / "taps.onnx")
    plain = [model.run(["logits", "probabilities"], {"image": part}) for part in parts]
    names = [output.name for output in taps.get_outputs()]
    tapped, digests = [], []
    for part in parts:
        found = dict(zip(names, taps.run(names, {"image": part}), strict=True))
        tapped.append(found["logits"])
        integers = [found[name] for name in names if name not in ("logits", "probabilities")]
        digests += [[digest(tensor[index]) for tensor in integers] for index in range(len(part))]
    return {
        "logits": np.concatenate([one for one, _ in plain]),
        "probabilities": np.concatenate([one for _, one in plain]),
        "tapped": np.concatenate(tapped),
        "digests": np.array(digests, dtype=np.uint64),
    }


def instructions() -> list[str]:
    """The instructions for int8 that this processor has."""
    from numpy._core._multiarray_umath import __cpu_features__ as features  # what numpy.show_runtime prints

    found = [ours for name, ours in INSTRUCTIONS.items() if features.get(name)]
    if features.get("AVX512_ICL") and "AVX512-VNNI" not in found:
        found.append("AVX512-VNNI")
    if platform.machine() == "aarch64" and ctypes.CDLL(None).getauxval(AT_HWCAP2) & HWCAP2_I8MM:
        found.append("i8mm")
    return found


def main() -> None:
    """Run all jobs."""
    for folder in map(Path, sys.argv[2:]):
        np.savez(folder / f"{sys.argv[1]}.npz", **outputs_of(folder))
    versions = {name: metadata.version(name) for name in ("onnxruntime", "numpy", "pillow", "simplejpeg")}
    print(json.dumps({"python": platform.python_version(), **versions, "instructions": instructions()}))


if __name__ == "__main__":
    main()
