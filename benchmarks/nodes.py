"""Where the time of a model goes: each node that ONNX Runtime runs, from its profiler, on one thread.

    python benchmarks/nodes.py runs/a/model.int8.onnx --batch 64

Microseconds a picture, medians over calls, in the order in which the nodes run, and how many multiply-adds that is.
The profiler itself takes one to two microseconds a call of each node: at batch 1 the sum is that much too high.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cnn_infer.system import machine

WARM_UP = 20


def profiled(model: bytes, pictures: np.ndarray, calls: int, folder: Path) -> tuple[list[dict[str, Any]], Path]:
    """The profiler's events, and the graph that ran."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "running.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for _ in range(calls):
        session.run(["probabilities"], {"image": pictures})
    return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")), folder / "running.onnx"


def plain(model: bytes, pictures: np.ndarray, calls: int) -> float:
    """Seconds of a call without the profiler, the median."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        session.run(["probabilities"], {"image": pictures})
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    content, calls = options.model.read_bytes(), WARM_UP + max(40, 1000 // options.batch)
    shape = [size.dim_value for size in onnx.load(options.model).graph.input[0].type.tensor_type.shape.dim[1:]]
    pictures = np.random.default_rng(0).integers(0, 256, (options.batch, *shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        events, running = profiled(content, pictures, calls, Path(folder))
        graph = onnx.load(running).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer if len(tensor.dims) in (2, 4)}
    weights = {node.name: max((sizes.get(name, 0) for name in node.input), default=0) for node in graph.node}
    found: dict[str, list[float]] = {}
    about: dict[str, tuple[str, list[int]]] = {}
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"]:
            found.setdefault(name, []).append(event["dur"])
            about[name] = event["args"]["op_name"], next(iter(event["args"]["output_type_shape"][0].values()))
    print(f"{options.model}, batch {options.batch}, one thread; {machine.description()}")
    print(f"{'us a picture':>12} {'share':>6} {'MMAC':>7} {'GMAC/s':>7}  node")
    medians = {name: statistics.median(times[WARM_UP:]) / options.batch for name, times in found.items()}
    total = sum(medians.values())
    for name, microseconds in medians.items():
        kind, output = about[name]
        places = int(np.prod(output[1:])) // max(output[1:]) if len(output) == 4 else 1
        channels_last = places if kind in ("QLinearConv", "NhwcFusedConv") else int(np.prod(output[2:]))
        work = weights.get(name, 0) * (channels_last if "Conv" in kind else 1)
        if not any(word in kind for word in ("Conv", "Gemm", "MatMul")):
            work = 0
        speed = f"{work / microseconds / 1e3:7.0f}" if work and microseconds else " " * 7
        print(f"{microseconds:12.2f} {microseconds / total:6.1%} {work / 1e6:7.2f} {speed}  {kind} {output[1:]}")
    without = 1e6 * plain(content, pictures, calls) / options.batch
    print(f"{total:12.2f} in all; {without:.2f} without the profiler")


if __name__ == "__main__":
    main()
